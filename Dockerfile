# edgebrush on CPU: docker build -t edgebrush . && docker run --rm -v "$PWD/runs:/work/runs" edgebrush compare
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/edgebrush
# Dependencies first: a layer that only changes with pyproject.toml and constraints.txt.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p src/edgebrush && touch src/edgebrush/__init__.py \
 && /opt/edgebrush/bin/pip install --no-cache-dir --constraint constraints.txt . \
 && /opt/edgebrush/bin/pip uninstall --yes edgebrush \
 && rm -rf build src
COPY src src
RUN /opt/edgebrush/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
COPY --from=build /opt/edgebrush /opt/edgebrush
# Compiled code is cached in the home folder.
RUN useradd --create-home --uid 1000 edgebrush && mkdir -p /work/runs && chown -R edgebrush /work
ENV PATH=/opt/edgebrush/bin:$PATH
USER edgebrush
WORKDIR /work
# A station or an agent in a container must listen on all addresses: `serve --host 0.0.0.0 --token-env TOKEN`, and
# `--allow-host NAME` where others reach it by the container's or service's name.
EXPOSE 8000 8100
ENTRYPOINT ["edgebrush"]
CMD ["--help"]
