# The images of modelward: one file, one image a process, each with that process's packages and no others.
#   docker build --build-arg PROCESS=sidecar -t modelward-sidecar:1 .       PROCESS: controller, admission, sidecar or jobs
# Where no registry answers, give a local base: --build-arg BASE=modelward-base:trixie-1 --network=host
# `make images` does all that. No feature of BuildKit is used: the builder that every Docker has is enough.
ARG BASE=python:3.13-slim

FROM ${BASE} AS wheel
RUN python3 -m venv /opt/pip
COPY requirements/build.txt /src/requirements/
RUN /opt/pip/bin/pip install --no-cache-dir --require-hashes -r /src/requirements/build.txt
COPY pyproject.toml /src/
COPY operator /src/operator
# The readme is for the package index: here it would only make new images of new words.
RUN touch /src/README.md \
 && /opt/pip/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /dist /src

FROM ${BASE} AS install
# pip has a home of its own, so that the environment that is shipped holds none.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/modelward
ARG PROCESS=controller
COPY requirements/${PROCESS}.txt /src/
RUN /opt/pip/bin/pip --python /opt/modelward/bin/python install --no-cache-dir --no-compile --only-binary :all: \
      --require-hashes -r /src/${PROCESS}.txt
COPY --from=wheel /dist /dist
# The file system is read-only later: bytecode is compiled now, and never compared with its source again.
RUN /opt/pip/bin/pip --python /opt/modelward/bin/python install --no-cache-dir --no-compile --no-index --no-deps /dist/*.whl \
 && /opt/modelward/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/modelward/lib \
 && if [ "${PROCESS}" = jobs ]; then ln -s modelward /opt/modelward/bin/entrypoint; \
    else ln -s "modelward-${PROCESS}" /opt/modelward/bin/entrypoint; fi

FROM ${BASE}
COPY --from=install /opt/modelward /opt/modelward
ENV PATH=/opt/modelward/bin:$PATH PYTHONUNBUFFERED=1
# Imports what the process imports: tries the image, and leaves the bytecode of the standard library's modules that it takes.
RUN ["python3", "-c", "import runpy; runpy.run_path('/opt/modelward/bin/entrypoint', run_name='imported')"]
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["entrypoint"]
