"""Weights files: what goes in comes out, and nothing that was touched comes out at all."""

from __future__ import annotations

import pickle
import pickletools
import resource
import signal
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lscgan import weights
from lscgan.weights import WeightsError


class Module(nn.Module):
    """Tensors of several kinds and sizes, an empty one and a counter among them."""

    def __init__(self, seed: int = 0, factor: float = 1.0):
        super().__init__()
        torch.manual_seed(seed)
        self.factor = factor
        self.linear = nn.Linear(5, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("none", torch.zeros(0, 4))
        self.register_buffer("flags", torch.tensor([True, False]))

    def config(self) -> dict[str, Any]:
        return {"factor": self.factor, "names": ["é", "b"], "region": (0.1, 0.9)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    weights.save(Module(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def data_starts(content: bytes) -> int:
    """A safetensors file: 8 bytes for the header's length, the header, the tensors' bytes."""
    return int(8 + struct.unpack("<Q", content[:8])[0])


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        a.dtype == other[name].dtype and torch.equal(a, other[name]) for name, a in one.items()
    )


# --- Round trips ----------------------------------------------------------------------------------


def test_float32_comes_back_exactly(saved: Path) -> None:
    read = weights.read(saved)
    assert read.kind == "Module"
    assert read.config == {"factor": 1.0, "names": ["é", "b"], "region": [0.1, 0.9]}
    assert same(read.tensors, Module().state_dict())


def test_float16_comes_back_within_its_rounding_as_float32(tmp_path: Path) -> None:
    half, full = tmp_path / "half.safetensors", tmp_path / "full.safetensors"
    module = nn.Linear(100, 100)
    module.config = dict  # type: ignore[assignment]
    weights.save(module, half, torch.float16)  # type: ignore[arg-type]
    weights.save(module, full)  # type: ignore[arg-type]
    read = weights.read(half).tensors["weight"]
    assert read.dtype == torch.float32
    # half precision keeps 11 bits, down to steps of 2^-24: an error of half a step
    weight = module.weight.detach()
    error = (read - weight).abs()
    assert bool((error <= (weight.abs() * 2**-11).clamp_min(2**-25)).all())
    assert float(error.max()) > 0
    assert half.stat().st_size < 0.6 * full.stat().st_size


def test_float16_refuses_a_number_that_it_cannot_hold(tmp_path: Path) -> None:
    module = Module()
    module.state_dict()["norm.running_var"].fill_(1e6)
    with pytest.raises(ValueError, match=r"norm\.running_var holds .* torch\.float16"):
        weights.save(module, tmp_path / "model.safetensors", torch.float16)
    assert not list(tmp_path.iterdir())


def test_counters_and_flags_keep_their_type(tmp_path: Path) -> None:
    module = Module()
    module.norm(torch.randn(4, 3))
    weights.save(module, tmp_path / "m.safetensors", torch.float16)
    read = weights.read(tmp_path / "m.safetensors").tensors
    assert torch.equal(read["norm.num_batches_tracked"], torch.tensor(1))
    assert torch.equal(read["flags"], torch.tensor([True, False]))


def test_tensors_that_share_memory_or_lie_across_it_are_saved(tmp_path: Path) -> None:
    module = Module()
    module.register_buffer("across", torch.arange(6.0).view(2, 3).T)
    module.register_buffer("shared", module.linear.weight.detach()[:2])
    weights.save(module, tmp_path / "m.safetensors")
    read = weights.read(tmp_path / "m.safetensors").tensors
    assert torch.equal(read["across"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))
    assert torch.equal(read["shared"], read["linear.weight"][:2])


def test_there_is_no_pickle_in_the_file_nor_in_reading_it(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    weights.read(saved)
    with pytest.raises(ValueError, match=r"at position \d+, opcode .* unknown"):
        list(pickletools.genops(saved.read_bytes()))


# --- Files that are refused -----------------------------------------------------------------------


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@example(place=0.0, flip=1)
@example(place=0.999, flip=128)
def test_any_byte_that_was_touched_is_noticed(saved: Path, place: float, flip: int) -> None:
    content = bytearray(saved.read_bytes())
    position = int(place * len(content))
    content[position] ^= flip
    touched = saved.with_name("touched.safetensors")
    touched.write_bytes(content)
    if position >= data_starts(saved.read_bytes()):
        with pytest.raises(WeightsError, match="was altered: its checksum does not match"):
            weights.read(touched)
    else:
        # In the header, a space may have become another space: then nothing was lost.
        try:
            read, original = weights.read(touched), weights.read(saved)
        except WeightsError:
            return
        assert (read.kind, read.config) == (original.kind, original.config)
        assert same(read.tensors, original.tensors)


def test_every_byte_of_the_first_tensor_and_of_the_configuration_counts(saved: Path) -> None:
    content = saved.read_bytes()
    start = data_starts(content)
    quoted = content.index(b"factor")
    for position in (*range(start, start + 60), *range(quoted - 20, quoted + 30)):
        touched = bytearray(content)
        touched[position] ^= 1
        saved.write_bytes(touched)
        with pytest.raises(WeightsError):
            weights.read(saved)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match="truncated or no safetensors file"):
        weights.read(saved)


def test_a_configuration_that_was_exchanged_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    assert content.count(b'\\"factor\\": 1.0') == 1
    saved.write_bytes(content.replace(b'\\"factor\\": 1.0', b'\\"factor\\": 2.0'))
    with pytest.raises(WeightsError, match="was altered"):
        weights.read(saved)


@pytest.mark.parametrize("header", ["not json", "[1, 2]", "{}", '{"kind": "Module"}', "null"])
def test_a_header_of_another_form_is_refused(tmp_path: Path, header: str) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "m.safetensors", metadata={"lscgan": header})
    with pytest.raises(WeightsError, match="was altered"):
        weights.read(tmp_path / "m.safetensors")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="no lscgan configuration: not one of ours"):
        weights.read(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(WeightsError, match="truncated or no safetensors file"):
        weights.read(path)
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        weights.read(tmp_path / "gone.safetensors")


def test_anyone_can_read_the_tensors_without_this_library(saved: Path) -> None:
    assert same(load_file(saved), Module().state_dict())


# --- A disk that is full --------------------------------------------------------------------------


def test_a_full_disk_keeps_the_old_file(saved: Path) -> None:
    """The system itself refuses to write beyond a limit here, as a full disk would."""
    old = saved.read_bytes()
    large = Module()
    large.register_buffer("large", torch.zeros(100_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*model\.safetensors: .* is kept"):
            weights.save(large, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert saved.read_bytes() == old
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]
