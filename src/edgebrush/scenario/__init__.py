"""The world as a YAML file: schema, presets, traces, offered load, and the arrays made from it."""
