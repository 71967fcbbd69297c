"""The latent design: which dimensions of z mean what, and which law each of them follows.

Everything else asks this object and nothing counts dimensions by hand. A design is a row of
parts; a part owns a block of neighbouring dimensions:

* :class:`GaussianBlock`: a labelled attribute, z ~ N(mu(label), I) (LSC-GAN, Kim & Cho 2019);
* :class:`ConditionBlock`: a label handed over as it is, without noise (the conditional VAE and
  GAN that chapters compare with);
* :class:`CategoricalCode`: a one-hot code (InfoGAN, Chen et al. 2016, section 7);
* :class:`UniformCode`: one dimension, z ~ U(-1, 1) (InfoGAN's continuous code);
* :class:`Noise`: free dimensions, z ~ N(0, I).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

FREE = "free"
"""The name under which :meth:`LatentDesign.split` returns the free noise."""


@dataclass(frozen=True)
class GaussianBlock:
    """A labelled attribute's dimensions: N(at_zero + label * (at_one - at_zero), I) in each.

    ``at_zero`` and ``at_one`` are the prior means of labels 0 and 1; any other real label lies
    on the same line.
    """

    kind: ClassVar[str] = "gaussian"
    name: str
    size: int
    at_zero: float
    at_one: float

    @property
    def step(self) -> float:
        """How far the mean moves, in every dimension of the block, when the label grows by 1."""
        return self.at_one - self.at_zero

    def mean(self, label: Tensor) -> Tensor:
        return (self.at_zero + self.step * label)[:, None].expand(-1, self.size)  # (B, size)

    def sample(self, label: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.mean(label) + _normal((len(label), self.size), label.device, generator)

    def random_label(
        self, count: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        coins = torch.rand(count, generator=generator, device=device)  # (B,)
        return (coins < 0.5).float()


@dataclass(frozen=True)
class ConditionBlock(GaussianBlock):
    """A label repeated ``size`` times: the Gaussian block's mean without its noise.

    This is how conditional models are told a label (Sohn et al. 2015). The same means as a
    Gaussian block make the two comparable: only the noise and the encoder's part differ.
    """

    kind: ClassVar[str] = "condition"

    def sample(self, label: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.mean(label)


@dataclass(frozen=True)
class CategoricalCode:
    """A one-hot code of ``size`` classes; its label is the class index 0 ... size - 1."""

    kind: ClassVar[str] = "categorical"
    name: str
    size: int

    def mean(self, label: Tensor) -> Tensor:
        index = label.long()
        if bool((index != label).any()) or bool(((index < 0) | (index >= self.size)).any()):
            raise ValueError(
                f"the label of {self.name!r} is a class index: give whole numbers from 0 to "
                f"{self.size - 1}"
            )
        return torch.nn.functional.one_hot(index, self.size).float()  # (B, size)

    def sample(self, label: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.mean(label)

    def random_label(
        self, count: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        return torch.randint(self.size, (count,), generator=generator, device=device).float()


@dataclass(frozen=True)
class UniformCode:
    """One continuous code, U(-1, 1); its label is the code's own value."""

    kind: ClassVar[str] = "uniform"
    name: str
    size: int = 1

    def mean(self, label: Tensor) -> Tensor:
        return label[:, None]  # (B, 1)

    def sample(self, label: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.mean(label)

    def random_label(
        self, count: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        return 2 * torch.rand(count, generator=generator, device=device) - 1


@dataclass(frozen=True)
class Noise:
    """Free dimensions, N(0, I): everything that no label speaks of."""

    kind: ClassVar[str] = "noise"
    size: int
    name: str = FREE


Code = GaussianBlock | CategoricalCode | UniformCode
Part = Code | Noise
_KINDS: dict[str, type[Part]] = {
    part.kind: part for part in (GaussianBlock, ConditionBlock, CategoricalCode, UniformCode, Noise)
}


@dataclass(frozen=True)
class LatentDesign:
    """A latent space of ``size`` dimensions, part by part.

    Make one with :meth:`lsc` or :meth:`infogan`; parts may also be given directly. Shapes in
    this class: B vectors, A named parts (:attr:`names`), D = :attr:`size` dimensions.

    Raises:
        ValueError: a name is empty or repeated, or a part has no dimensions.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        for name in names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"every part of a latent design needs a name, not {name!r}")
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is named twice in this latent design: name it once")
        for part in self.parts:
            _check_size(f"the size of {part.name!r}", part.size)
            if part.name == FREE and not isinstance(part, Noise):
                raise ValueError(f"{FREE!r} is the name of the free noise: name the part otherwise")
        if not self.parts:
            raise ValueError("a latent design needs at least one part")

    # -- making one ---------------------------------------------------------------------------

    @classmethod
    def lsc(
        cls,
        attributes: Iterable[str],
        dims_per_attribute: int = 20,
        size: int = 512,
        shift: float = 1.0,
        coding: str = "presence",
    ) -> LatentDesign:
        """LSC-GAN's space: one shifted Gaussian block an attribute, the rest N(0, I).

        With ``coding="presence"``, the paper's, label 0 has mean 0 and label 1 mean ``shift`` in
        each of the block's dimensions (Kim & Cho 2019: 20 dimensions of mean 1). With
        ``"signed"``, ours, label 0 has mean ``-shift`` and label 1 ``+shift``; the distance
        between the two doubles. No attributes at all give the plain VAE's N(0, I).

        Raises:
            ValueError: the blocks do not fit in ``size``, a name is repeated, a size is not a
                whole number of at least 1, ``shift`` is not finite and above 0, or ``coding`` is
                unknown.
        """
        if isinstance(attributes, str):
            raise ValueError(f"attributes is a list of names: write [{attributes!r}]")
        names = tuple(attributes)
        _check_size("dims_per_attribute", dims_per_attribute)
        _check_size("size", size)
        if not math.isfinite(shift) or shift <= 0:
            raise ValueError(f"shift is a finite number above 0, not {shift}")
        if coding not in ("presence", "signed"):
            raise ValueError(f"coding is 'presence' or 'signed', not {coding!r}")
        free = size - len(names) * dims_per_attribute
        if free < 0:
            raise ValueError(
                f"{len(names)} attributes of {dims_per_attribute} dimensions need "
                f"{len(names) * dims_per_attribute}, but size is {size}: give fewer dimensions "
                "an attribute or a larger size"
            )
        at_zero = 0.0 if coding == "presence" else -float(shift)
        blocks = [GaussianBlock(n, dims_per_attribute, at_zero, float(shift)) for n in names]
        return cls((*blocks, Noise(free)) if free else tuple(blocks))

    @classmethod
    def conditional(
        cls,
        attributes: Iterable[str],
        repeats: int = 1,
        size: int = 512,
        shift: float = 1.0,
        coding: str = "presence",
    ) -> LatentDesign:
        """A conditional model's inputs: each label ``repeats`` times, then N(0, I) noise.

        Arguments and errors as in :meth:`lsc`, whose blocks have the same means.
        """
        like = cls.lsc(attributes, repeats, size, shift, coding)
        return cls(
            tuple(
                ConditionBlock(p.name, p.size, p.at_zero, p.at_one)
                if isinstance(p, GaussianBlock)
                else p
                for p in like.parts
            )
        )

    @classmethod
    def infogan(
        cls, categorical: Sequence[int] = (10,), continuous: int = 2, noise: int = 62
    ) -> LatentDesign:
        """InfoGAN's space: one-hot codes, U(-1, 1) codes and N(0, I) noise.

        The default is the MNIST setting of Chen et al. 2016 (appendix C.1): 10 classes, 2
        continuous codes, 62 dimensions of noise. Codes are named ``categorical_1``, ... and
        ``continuous_1``, ... in this order.

        Raises:
            ValueError: a code has fewer than 2 classes, or a count is negative.
        """
        for name, number in (("continuous", continuous), ("noise", noise)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise ValueError(f"{name} is a whole number of at least 0, not {number!r}")
        for classes in categorical:
            if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
                raise ValueError(f"a categorical code has at least 2 classes, not {classes!r}")
        parts: list[Part] = [
            CategoricalCode(f"categorical_{i}", classes) for i, classes in enumerate(categorical, 1)
        ]
        parts += [UniformCode(f"continuous_{i}") for i in range(1, continuous + 1)]
        return cls((*parts, Noise(noise)) if noise else tuple(parts))

    @classmethod
    def ss_infogan(
        cls,
        labelled: Mapping[str, int],
        categorical: Sequence[int] = (),
        continuous: int = 2,
        noise: int = 62,
    ) -> LatentDesign:
        """ss-InfoGAN's space: codes named after labels, then InfoGAN's.

        The default is the official MNIST setting (Spurr et al. 2017), with
        ``labelled={"class": 10}``.

        Args:
            labelled: how many classes each label has, by its name in the data.
            categorical, continuous, noise: as in :meth:`infogan`.

        Raises:
            ValueError: as in :meth:`infogan`, or no label is named.
        """
        if not labelled:
            raise ValueError("name at least one label: without any, use LatentDesign.infogan(...)")
        rest = cls.infogan(categorical, continuous, noise)
        tied = cls.infogan(tuple(labelled.values()), 0, 0).parts
        named = [CategoricalCode(n, p.size) for n, p in zip(labelled, tied, strict=True)]
        return cls((*named, *rest.parts))

    # -- asking it ----------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """D, the number of latent dimensions."""
        return sum(part.size for part in self.parts)

    @property
    def codes(self) -> tuple[Code, ...]:
        """The parts that can be asked for: all but the free noise."""
        return tuple(part for part in self.parts if not isinstance(part, Noise))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of :attr:`codes`: the columns, in order, of every label table."""
        return tuple(code.name for code in self.codes)

    def block(self, name: str) -> slice:
        """The dimensions that a part owns, as a slice of the last axis of z.

        Raises:
            ValueError: no part has this name.
        """
        ends = list(itertools.accumulate(part.size for part in self.parts))
        for part, end in zip(self.parts, ends, strict=True):
            if part.name == name:
                return slice(end - part.size, end)
        raise ValueError(f"this latent design has no {name!r}: it has {self._known()}")

    def labels(self, count: int = 1, /, **amounts: float) -> Tensor:
        """``count`` equal rows of labels, (count, A) float32: the named amounts, 0 elsewhere.

        ``design.labels(8, Smiling=1)`` asks for eight smiling faces and nothing else.

        Raises:
            ValueError: an unknown name, or a negative count.
        """
        _check_count(count)
        labels = torch.zeros(count, len(self.names))  # (count, A)
        for name, amount in amounts.items():
            labels[:, self._column(name)] = float(amount)
        return labels

    def mean(self, labels: Tensor) -> Tensor:
        """The prior mean of each row of labels: (B, A) -> (B, D) float32.

        Labels may be 0/1, booleans or any real amounts; a single row (A,) counts as (1, A).
        Features add up: each label moves its own block alone, N(mu_i + mu_j, I) (Kim & Cho 2019).
        A design without names looks at no label: it takes any columns, and gives 0 for each row.

        Raises:
            ValueError: the labels do not have one column a name, or are not finite.
        """
        labels = self._check_labels(labels)
        columns = iter(labels.unbind(dim=1))
        blocks = [
            labels.new_zeros(len(labels), part.size)
            if isinstance(part, Noise)
            else part.mean(next(columns))
            for part in self.parts
        ]
        return torch.cat(blocks, dim=1)  # (B, D)

    def sample(
        self,
        labels: Tensor | None = None,
        count: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Vectors from the designed space, (B, D) float32: each part from its own law.

        Args:
            labels: (B, A), one column a name, or one row (A,) that is repeated ``count`` times; a
                design without names takes any columns and draws one vector a row.
                Without them every label is drawn on its own: a fair coin for a Gaussian block, a
                uniform class or value for a code. (Labels that exclude each other, such as two
                hair colours, are then drawn together too: give labels to avoid it.)
            count: how many; with a label table it may be left out.
            generator: the source of chance; torch's global one by default.

        Raises:
            ValueError: ``count`` is missing or disagrees with the labels, or the labels are wrong.
        """
        if labels is None:
            if count is None:
                raise ValueError("give labels, or count: how many vectors to draw")
            labels = self.random_labels(count, generator)
            device = labels.device
        else:
            if torch.as_tensor(labels).ndim == 1 and count is not None:
                _check_count(count)
                labels = torch.as_tensor(labels)[None].expand(count, -1)
            labels = self._check_labels(labels)
            if count is not None and count != len(labels):
                raise ValueError(
                    f"count is {count} but there are {len(labels)} rows of labels: leave count out"
                )
            count, device = len(labels), labels.device
        rest = iter(labels.unbind(dim=1))
        blocks = [
            _normal((count, part.size), device, generator)
            if isinstance(part, Noise)
            else part.sample(next(rest), generator)
            for part in self.parts
        ]
        return torch.cat(blocks, dim=1)  # (B, D)

    def random_labels(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` rows of labels, each drawn from its part's law: (count, A) float32.

        A fair coin for a Gaussian block, a uniform class or value for a code.

        Raises:
            ValueError: a negative count.
        """
        _check_count(count)
        device = torch.device("cpu") if generator is None else generator.device
        columns = [code.random_label(count, device, generator) for code in self.codes]
        return torch.stack(columns, dim=1) if columns else torch.empty(count, 0, device=device)

    def shift(self, z: Tensor, /, **amounts: float | Tensor) -> Tensor:
        """A copy of z with the named blocks moved, in label units: (B, D) -> (B, D).

        ``shift(z, Smiling=-1.0)`` moves the block by what one step of the label is, whatever the
        coding: the paper's ``G(z + n_j)`` (Kim & Cho 2019). An amount may be a tensor (B,), one a
        vector.

        Raises:
            ValueError: z is not (B, D), an unknown name, or a categorical code, which has classes
                and no amounts.
        """
        self._check_vectors(z)
        moved = z.clone()
        for name, amount in amounts.items():
            code = self.codes[self._column(name)]
            if isinstance(code, CategoricalCode):
                raise ValueError(
                    f"{name!r} has classes, not amounts: sample it with the label that you want"
                )
            by = torch.as_tensor(amount, dtype=z.dtype, device=z.device)
            if by.ndim > 1 or (by.ndim == 1 and len(by) != len(z)):
                raise ValueError(
                    f"the amount of {name!r} is one number or one a vector ({len(z)}), "
                    f"not a tensor of shape {tuple(by.shape)}"
                )
            step = code.step if isinstance(code, GaussianBlock) else 1.0
            moved[:, self.block(name)] += step * by.reshape(-1, 1)
        return moved

    def doses(self, z: Tensor) -> Tensor:
        """Which label each block of z stands for, by its mean: (B, D) -> (B, A) in label units.

        The mean of a Gaussian block moves along the label's line, whatever the coding; over
        z ~ N(mu(y), I) it scatters around y with standard deviation 1 / (step sqrt(size)).

        Raises:
            ValueError: z is not (B, D), or a code has no amounts.
        """
        self._check_vectors(z)
        columns = [
            (z[:, self.block(block.name)].mean(dim=1) - block.at_zero) / block.step
            for block in self._gaussian_blocks()
        ]
        return torch.stack(columns, dim=1)  # (B, A)

    def dose_spread(self) -> Tensor:
        """Standard deviation of :meth:`doses` around the label, by attribute: (A,).

        Raises:
            ValueError: a code has no amounts.
        """
        return torch.tensor([1 / (b.step * b.size**0.5) for b in self._gaussian_blocks()])

    def split(self, z: Tensor) -> dict[str, Tensor]:
        """z by part: (B, D) -> {name: (B, size)}, views of z; the free noise is ``"free"``.

        Raises:
            ValueError: z is not (B, D).
        """
        self._check_vectors(z)
        return {part.name: z[:, self.block(part.name)] for part in self.parts}

    # -- saving it ----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The design as plain lists, strings and numbers, fit for JSON."""
        return {"parts": [{"kind": p.kind, **dataclasses.asdict(p)} for p in self.parts]}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> LatentDesign:
        """The design that :meth:`to_dict` saved.

        Raises:
            ValueError: the dict is no saved design.
        """
        try:
            parts = []
            for fields in saved["parts"]:
                fields = dict(fields)
                parts.append(_KINDS[fields.pop("kind")](**fields))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not a saved latent design: {error!r}") from error
        return cls(tuple(parts))

    # -- checking -----------------------------------------------------------------------------

    def _gaussian_blocks(self) -> list[GaussianBlock]:
        blocks = []
        for code in self.codes:
            if not isinstance(code, GaussianBlock):
                raise ValueError(f"{code.name!r} has no dose: it is no Gaussian block")
            blocks.append(code)
        return blocks

    def _known(self) -> str:
        return ", ".join(part.name for part in self.parts)

    def _column(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"this latent design has no {name!r}: it has {', '.join(self.names)}")
        return self.names.index(name)

    def _check_labels(self, labels: Tensor) -> Tensor:
        labels = torch.as_tensor(labels).float()
        if labels.ndim == 1:
            labels = labels[None]
        if labels.ndim == 2 and not self.names:
            labels = labels[:, :0]
        if labels.ndim != 2 or labels.shape[1] != len(self.names):
            raise ValueError(
                f"labels have shape (B, {len(self.names)}), one column each for "
                f"{', '.join(self.names) or 'no attribute'}; these have {tuple(labels.shape)}"
            )
        if not bool(torch.isfinite(labels).all()):
            raise ValueError("a label is not a finite number: fill or drop the missing ones")
        return labels

    def _check_vectors(self, z: Tensor) -> None:
        if z.ndim != 2 or z.shape[1] != self.size:
            raise ValueError(f"z has shape (B, {self.size}), not {tuple(z.shape)}")


def _normal(
    shape: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    # A CPU generator with labels on a GPU draws where it lives: the same seed, the same vectors.
    source = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=source).to(device)


def _check_size(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{what} is a whole number of at least 1, not {value!r}")


def _check_count(count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"count is a whole number of at least 0, not {count!r}")
