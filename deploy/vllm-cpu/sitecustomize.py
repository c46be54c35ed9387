"""Runs at the start of every Python of this environment: vLLM imports torchvision before it loads its plugins."""

from vllm_cpu_fixes import let_torchvision_load

let_torchvision_load()
