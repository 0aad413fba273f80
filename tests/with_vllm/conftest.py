"""Tests with real vLLM on a CPU: `make test-vllm` sets up an environment that has it. The folder may not be called vllm, which
would then be a package of that name to all tests.
"""

from functools import partial
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session", autouse=True)
def vllm_on_a_cpu(tmp_path_factory: pytest.TempPathFactory):
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; `make test-vllm` tests with it in an environment of its own")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "VLLM_CACHE_ROOT": str(tmp_path_factory.mktemp("vllm")),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_NO_USAGE_STATS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        }.items():
            patch.setenv(name, value)
        import vllm
        from vllm import _custom_ops

        patch.setattr(_custom_ops, "_supports_onednn", False)  # oneDNN packs the weights, which cannot be loaded anew then
        patch.setattr(vllm, "LLM", partial(vllm.LLM, enforce_eager=True))  # compiling takes minutes and changes no weight
        yield
