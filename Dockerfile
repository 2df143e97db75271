# The images of modelward: one file, one image a process, each with that process's packages and no others.
#   docker build --build-arg PROCESS=sidecar -t modelward-sidecar:1 .       PROCESS: controller, admission, sidecar or jobs
# The sidecar is made with Pyfhel, for encrypted requests, which is compiled for some minutes; --build-arg HOMOMORPHIC=0 spares it.
# Where no registry answers, give a local base: --build-arg BASE=modelward-base:trixie-1 --network=host
# `make images` does all that. No feature of BuildKit is used: the builder that every Docker has is enough.
ARG BASE=python:3.13-slim
ARG PROCESS=controller
ARG HOMOMORPHIC=1

FROM ${BASE} AS wheel
RUN python3 -m venv /opt/pip
COPY requirements/build.txt /src/requirements/
RUN /opt/pip/bin/pip install --no-cache-dir --require-hashes -r /src/requirements/build.txt
COPY pyproject.toml /src/
COPY operator /src/operator
# The readme is for the package index: here it would only make new images of new words.
RUN touch /src/README.md \
 && /opt/pip/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /dist /src

# Pyfhel is published as sources only; its compiler stays here.
FROM ${BASE} AS homomorphic
ARG PROCESS
ARG HOMOMORPHIC
COPY requirements/he.txt requirements/seal.cmake requirements/pyfhel_wheel.py /src/
RUN mkdir /wheels && if [ "${PROCESS}${HOMOMORPHIC}" = sidecar1 ]; then \
      apt-get update -qq \
   && apt-get install -y -qq --no-install-recommends cmake g++ make python3-dev \
   && python3 -m venv /opt/pip && MODELWARD_CACHE=/tmp/cache /opt/pip/bin/python /src/pyfhel_wheel.py \
   && cp -L /tmp/cache/wheels/*/*.whl /usr/lib/*-linux-gnu/libgomp.so.1 /wheels; fi

FROM ${BASE} AS packages
# pip has a home of its own, so that the environment that is shipped holds none.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/modelward
ARG PROCESS
COPY requirements/${PROCESS}.txt /src/
# The file system is read-only later: bytecode is compiled now, and never compared with its source again.
# The packages' own tests are megabytes that nobody runs here.
RUN /opt/pip/bin/pip --python /opt/modelward/bin/python install --no-cache-dir --no-compile --only-binary :all: \
      --require-hashes -r /src/${PROCESS}.txt
COPY --from=homomorphic /wheels /wheels
RUN if ls /wheels/*.whl >/dev/null 2>&1; then /opt/pip/bin/pip --python /opt/modelward/bin/python install --no-cache-dir \
      --no-compile --no-index --no-deps /wheels/*.whl \
   && cp /wheels/libgomp.so.1 /opt/modelward/lib \
   && LD_LIBRARY_PATH=/opt/modelward/lib /opt/modelward/bin/python -c "import Pyfhel"; fi \
 && find /opt/modelward/lib -type d -name tests -prune -exec rm -r {} + \
 && /opt/modelward/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/modelward/lib

# modelward itself, apart: a change of a line makes a small new layer and leaves that of the packages as it is.
FROM packages AS program
ARG PROCESS
COPY --from=wheel /dist /dist
RUN /opt/pip/bin/pip --python /opt/modelward/bin/python install --no-cache-dir --no-compile --no-index --no-deps \
      --prefix /opt/program /dist/*.whl \
 && /opt/modelward/bin/python -m compileall -q -s /opt/program -p /opt/modelward --invalidation-mode unchecked-hash /opt/program \
 && if [ "${PROCESS}" = jobs ]; then entry=modelward; else entry="modelward-${PROCESS}"; fi \
 && ln -s "${entry}" /opt/program/bin/entrypoint

FROM ${BASE}
COPY --from=packages /opt/modelward /opt/modelward
COPY --from=program /opt/program /opt/modelward
ENV PATH=/opt/modelward/bin:$PATH LD_LIBRARY_PATH=/opt/modelward/lib PYTHONUNBUFFERED=1
# Imports what the process imports: tries the image, and leaves the bytecode of the standard library's modules that it takes.
RUN ["python3", "-c", "import runpy; runpy.run_path('/opt/modelward/bin/entrypoint', run_name='imported')"]
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["entrypoint"]
