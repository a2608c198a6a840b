"""Train and straighten the models that ship, and the classifier that scores them. Needs the extra ``[diffusers]``."""
