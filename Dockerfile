# Retouch's page and API in a container. Written with care, but not built where it was written (no
# container engine was at hand): tell us if it fails.
#
#   docker build -t retouch .
#   docker run --rm -p 127.0.0.1:8480:8480 -e RETOUCH_TOKEN=choose-one retouch
#
# Then open http://127.0.0.1:8480/?token=choose-one
# Weights beyond those in the package: -v ~/.cache/retouch/weights:/weights:ro
# Called by another name than a number: docker run ... retouch --allowed-host pictures.example
# Only uploads in passing are written, to /tmp: --read-only --tmpfs /tmp --cap-drop ALL should do.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/retouch \
 && /opt/retouch/bin/pip install --no-cache-dir --constraint constraints.txt \
    --index-url https://download.pytorch.org/whl/cpu torch \
 && /opt/retouch/bin/pip install --no-cache-dir --constraint constraints.txt ".[web,heic]"

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 retouch
COPY --from=build /opt/retouch /opt/retouch
USER retouch
ENV PATH=/opt/retouch/bin:$PATH RETOUCH_WEIGHTS=/weights PYTHONUNBUFFERED=1
EXPOSE 8480
# Health needs the token as well: it is the same for every request on a bind that is not loopback.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:8480/api/v1/health', headers={'Authorization': 'Bearer ' + os.environ.get('RETOUCH_TOKEN', '')}))"]
# Without RETOUCH_TOKEN the container does not start: everybody who reaches the port could use it.
ENTRYPOINT ["sh", "-c", ": ${RETOUCH_TOKEN:?set it} && exec retouch ui --host 0.0.0.0 --no-browser \"$@\"", "retouch"]
