# medrl in an image.
#   docker build -t medrl .                                   for a CPU
#   docker build -t medrl-cuda --build-arg DEVICE=cuda .      for NVIDIA GPUs: vLLM and 4-bit weights besides
#   docker run --rm -v "$PWD/runs:/data/runs" medrl algo=grpo data_mix=pubmed70
#   docker run --rm -it -v "$PWD/runs:/data/runs" --entrypoint python medrl -m medrl.chat runs/NAME-ID
#   docker run --rm --gpus all -v "$PWD/runs:/data/runs" medrl-cuda source=hub model=qwen2_5_3b_instruct
FROM python:3.11-slim

ARG DEVICE=cpu
# An index with torch for CPUs makes the image smaller by gigabytes; empty: the default index alone.
ARG PIP_EXTRA_INDEX_URL=
# Triton compiles its kernels when they are first used.
RUN if [ "$DEVICE" = cuda ]; then \
      apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi

WORKDIR /opt/medrl
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY medrl medrl
COPY hydra_plugins hydra_plugins
COPY conf conf
COPY experiments experiments
# vLLM wants other versions of what serves HTTP than constraints.txt has: beside it only what decides numbers is pinned.
RUN case "$DEVICE" in \
      cpu) pip install --no-cache-dir --constraint constraints.txt . ;; \
      cuda) grep -E '^(torch|transformers|trl|peft|accelerate|datasets|tokenizers|safetensors|hydra-core|omegaconf)==' constraints.txt \
              > numbers.txt && pip install --no-cache-dir --constraint numbers.txt '.[vllm,quantization]' ;; \
      *) echo "DEVICE is $DEVICE, should be cpu or cuda" >&2; exit 2 ;; \
    esac

WORKDIR /data
ENTRYPOINT ["python", "-m", "medrl"]
