# syntax=docker/dockerfile:1.7
# Targets: gateway (light, no torch), worker (also the beat), engine-cpu (vLLM on the CPU, for trying things out).

FROM python:3.11.14-slim-bookworm AS source
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/app/.venv/bin:$PATH HEED_DATA_DIR=/data
RUN useradd --uid 10001 --create-home heed && install --directory --owner heed --group heed /data
WORKDIR /app

FROM source AS gateway
COPY locks/gateway.txt locks/gateway.txt
RUN python -m venv .venv && pip install --require-hashes --no-deps -r locks/gateway.txt
COPY . .
RUN pip install --no-deps --editable .
ENV HEED_HOST=0.0.0.0 HEED_PORT=8080
USER heed
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["python", "-m", "serve"]

FROM source AS full
COPY . .
# Nothing can be compiled later: at run time the user may not write here.
RUN --mount=type=cache,target=/root/.cache UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 bash deploy/install.sh run

FROM full AS worker
ENV TOKENIZERS_PARALLELISM=false
USER heed
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "celery -A training.app inspect ping --destination worker@$HOSTNAME --timeout 20"]
CMD ["sh", "-c", "exec celery -A training.app worker -Q training,control -c 1 -n worker@$HOSTNAME --without-gossip"]

FROM full AS engine-cpu
ENV VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1
USER heed
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "vllm.entrypoints.openai.api_server", "--served-model-name", "base", "--host", "0.0.0.0", "--port", "8000", \
    "--enable-lora", "--max-loras", "4", "--max-cpu-loras", "16", "--max-lora-rank", "16", \
    "--scheduling-policy", "priority", "--logprobs-mode", "processed_logprobs", \
    "--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
CMD ["--model", "/app/deploy/starter", "--max-model-len", "2048", "--enforce-eager"]
