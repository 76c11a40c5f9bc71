"""Tensors as views on storages, so that aliasing, tied weights and views survive."""

from __future__ import annotations

import functools
from typing import Any

import torch

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import Kind, Node, register
from ckptd_agent.source.quiet import warnings_off
from ckptd_agent.state import sharing
from ckptd_agent.state.graphs import Graphs

DTYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64",
}  # fmt: skip
"""safetensors names; storages of other types are written as bytes."""

SMALL = 1 << 16
"""Bytes of a storage that are copied at every stage of a replay."""


class Storage(Kind):
    """Bytes that one or more tensors look at. What the drain copies is found under its name."""

    name = "storage"
    exact = (torch.UntypedStorage,)
    mutable = False

    def capture(self, obj: torch.UntypedStorage, capture: Capture) -> Node:
        number = capture.numbers[id(obj)]
        name = f"s{number}"
        capture.storages[name] = obj
        device = str(obj.device)
        # To ask costs as much as all the rest, and without a device no memory is pinned.
        pinned = device == "cpu" and torch.cuda.is_initialized() and obj.is_pinned()  # type: ignore[no-untyped-call]
        return [name, obj.nbytes(), device, pinned, None]  # the last one is set by sharing.link

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return (
            isinstance(fresh, torch.UntypedStorage)
            and not (_in_file(node, graft) and not graft.lenient)
            and fresh.nbytes() == node[2]
            and fresh.device.type == torch.device(node[3]).type
        )

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        storage = fresh
        if storage is None and node[5] is not None:
            storage = sharing.storage_in(graft.value(node[5][0]), node[5][1], node[2])
        elif storage is None:
            storage = torch.empty(
                node[2], dtype=torch.uint8, device=node[3], pin_memory=node[4]
            ).untyped_storage()
        # A stage copies what is big but once: the program only passes by. The last graft copies everything.
        passed_by = graft.lenient and fresh is not None and node[1] in graft.copied and node[2] > SMALL
        if node[2] and not passed_by and not _in_file(node, graft):
            storage.copy_(_bytes(graft.storages(node[1]), node[2]))
            graft.copied.add(node[1])
        return storage

    def refresh(self, node: Node, obj: torch.UntypedStorage, graft: Graft) -> None:
        if node[2]:
            obj.copy_(_bytes(graft.storages(node[1]), node[2]))


def _in_file(node: Node, graft: Graft) -> bool:
    """It lies in an array that is mapped on a file: that is made anew in the end, and filled by itself."""
    return node[5] is not None and bool(graft.node(node[5][0][0])[0] == "memmap")


def _bytes(saved: memoryview, nbytes: int) -> torch.UntypedStorage:
    if len(saved) != nbytes:
        raise ValueError(f"{len(saved)} bytes are saved where {nbytes} belong")
    with warnings_off():  # the buffer can't be written: we only read it
        return torch.frombuffer(saved, dtype=torch.uint8).untyped_storage()


class StorageTable:
    """Gives all tensors of one StorageImpl the same Python object, which is what a node stands for."""

    def __init__(self) -> None:
        self.known: dict[int, torch.UntypedStorage] = {}

    def of(self, tensor: torch.Tensor) -> torch.UntypedStorage:
        storage = tensor.untyped_storage()
        return self.known.setdefault(storage._cdata, storage)


@functools.cache
def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Tensor(Kind):
    name = "tensor"
    exact = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, torch.Tensor)

    def capture(self, obj: torch.Tensor, capture: Capture) -> Node:
        if obj.layout is not torch.strided or obj.is_quantized or obj.is_nested:
            return self._other_layout(obj, capture)
        storage = None
        if not obj.is_meta:  # which has no bytes
            storage = capture.scratch(StorageTable).of(obj)
            capture.dtypes.setdefault(id(storage), DTYPE_NAMES.get(obj.dtype, "U8"))
        freed = obj.grad_fn is not None and capture.scratch(Graphs).note(obj)
        return [
            capture.child(type(obj)),
            capture.child(storage),
            _type_name(obj.dtype),
            list(obj.shape),
            list(obj.stride()),
            obj.storage_offset(),
            [obj.requires_grad, obj.grad_fn is not None, obj.is_conj(), obj.is_neg(), freed],
            capture.child(obj.grad if obj.is_leaf else None),
            capture.items(obj.__dict__.items()),
        ]

    def _other_layout(self, obj: torch.Tensor, capture: Capture) -> Node:
        kinds = {"quantized": obj.is_quantized, "nested": obj.is_nested}
        kind = next((name for name, is_it in kinds.items() if is_it), str(obj.layout).removeprefix("torch."))
        capture.trouble(f"a tensor that is {kind} can't be carried over")
        return [None, None, "", [], [], 0, [False] * 5, None, []]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if not isinstance(fresh, torch.Tensor) or not graft.is_class(node[1], type(fresh)):
            return False
        if fresh.grad_fn is not None or node[7][1]:
            return False  # a graph belongs to one run: tensors that hang on one are made anew
        if fresh.is_meta != (node[2] is None):
            return False
        return str(fresh.dtype) == f"torch.{node[3]}" and fresh.layout is torch.strided

    def match(self, node: Node, fresh: torch.Tensor, graft: Graft) -> None:
        if node[2] is not None:
            graft.pair(node[2], graft.scratch(StorageTable).of(fresh))
        if fresh.grad is not None:
            graft.pair(node[8], fresh.grad)
        for name, value in zip(node[9][::2], node[9][1::2], strict=True):
            if name in fresh.__dict__:
                graft.pair(value, fresh.__dict__[name])

    def make(self, node: Node, fresh: Any, graft: Graft) -> torch.Tensor:
        view = self._view(node, graft)
        requires_grad, has_graph = node[7][:2]
        cls = graft.the_class(node[1], torch.Tensor)
        if has_graph:
            poisoned = _Freed if node[7][4] else _Gone
            hanging: torch.Tensor = poisoned.apply(view.requires_grad_())  # type: ignore[no-untyped-call]
            if cls is torch.nn.Parameter:  # changed in place where gradients were on: it hangs on a graph
                return torch.nn.Parameter(view.detach().clone(), requires_grad=False).copy_(hanging)
            return hanging
        if cls is torch.nn.Parameter:
            return torch.nn.Parameter(view, requires_grad=requires_grad)
        if cls is not torch.Tensor:
            view = view.as_subclass(cls) if cls is not torch.nn.Buffer else torch.nn.Buffer(view)
        return view.requires_grad_(requires_grad)

    def fill(self, node: Node, obj: torch.Tensor, graft: Graft) -> None:
        requires_grad, has_graph = node[7][:2]
        if not has_graph:
            with torch.no_grad():
                if not _same_view(obj, node, graft):
                    obj.data = self._view(node, graft)
            if obj.requires_grad != requires_grad:
                obj.requires_grad_(requires_grad)
            grad = graft.value(node[8])
            if obj.grad is not grad:
                obj.grad = grad
        values = graft.values(node[9])
        obj.__dict__.clear()
        obj.__dict__.update(zip(values[::2], values[1::2], strict=True))

    def _view(self, node: Node, graft: Graft) -> torch.Tensor:
        storage = graft.value(node[2])
        if storage is None:
            return torch.empty_strided(node[4], node[5], dtype=getattr(torch, node[3]), device="meta")
        view = torch.empty(0, dtype=getattr(torch, node[3]), device=storage.device)
        with torch.no_grad():
            view.set_(storage, node[6], node[4], node[5])
            if node[7][2]:
                view = view.conj()
            if node[7][3]:
                view = torch._neg_view(view)
        return view


def _same_view(obj: torch.Tensor, node: Node, graft: Graft) -> bool:
    storage = graft.value(node[2])
    return bool(
        (obj.is_meta if storage is None else obj.untyped_storage()._cdata == storage._cdata)
        and list(obj.shape) == node[4]
        and list(obj.stride()) == node[5]
        and obj.storage_offset() == node[6]
    )


class _Gone(torch.autograd.Function):
    """A value whose graph belonged to the run before: it can be read, but not differentiated through."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()  # not a view: the program may add to it in place

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        from ckptd_agent import link
        from ckptd_agent.loops import hooks

        why = (
            "the program goes backward through a graph that was built before the interruption, and a graph "
            "can't be carried over"
        )
        if hooks.replay is not None:  # a statement that is done once more on the way: its outcome is restored
            raise RuntimeError(why)
        link.refuse(why)


class _Freed(_Gone):
    """The same where backward had been through the graph and freed it: it can't go through it again."""

    freed_before = True

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        raise RuntimeError(
            "Trying to backward through the graph a second time (or directly access saved tensors after they "
            "have already been freed). Saved intermediate values of the graph are freed when you call "
            ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the "
            "graph a second time or if you need to access saved tensors after calling backward."
        )


class TorchName(Kind):
    """dtypes, devices, layouts, sizes and the like: values that torch names."""

    name = "torch"
    exact = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        if isinstance(obj, torch.Size):
            return ["Size", list(obj)]
        return [type(obj).__name__, str(obj).removeprefix("torch.")]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[1] == "Size":
            return torch.Size(node[2])
        if node[1] == "device":
            return torch.device(node[2])
        found = getattr(torch, node[2], None)
        if type(found).__name__ != node[1]:
            raise graft.refuse(f"torch has no {node[1]} {node[2]}")
        return found


register(Storage, Tensor, TorchName)
