"""Model config: a config.json read strictly, one key at a time.

Every reader names the file and the key when it refuses, so that a truncated, renamed or absurd config.json becomes
one line. Defaults of the configuration class fill keys that the file leaves out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from sizing.errors import DocumentError, UnknownFact

LARGEST_SIZE = 1 << 31
"""No dimension of a model is near this; a larger number is a damaged file."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One mapping of a config.json: the whole, its text part or another section."""

    values: Mapping[str, object]
    origin: str
    place: str = ""

    @classmethod
    def of(cls, content: object, *, origin: str) -> Self:
        if not isinstance(content, dict) or not content:
            raise DocumentError(f"{origin}: not a model configuration: expected a JSON object with keys")
        return cls(values=content, origin=origin)

    def architecture(self) -> str:
        """The model class; the first of `architectures`."""
        names = self.strings("architectures")
        if not names:
            model_type = self.text_or_none("model_type") or "no model_type either"
            raise UnknownFact(f"{self.origin}: `architectures` is missing ({model_type}); add the model class to it")
        return names[0]

    def text(self, defaults: Mapping[str, object]) -> Self:
        """The text part (`text_config` of a multimodal model, else the whole) over the defaults of its class."""
        section = self.section("text_config") or self
        given = {key: value for key, value in section.values.items() if value is not None}
        outer = {key: self.values[key] for key in ("tie_word_embeddings",) if self.values.get(key) is not None}
        return type(self)(values={**defaults, **outer, **given}, origin=self.origin, place=section.place)

    def section(self, key: str) -> Self | None:
        """A nested mapping, or None if it is absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, "a JSON object")
        return type(self)(values=value, origin=self.origin, place=f"{self.place}{key}.")

    def positive(self, key: str) -> int:
        """A whole number of at least 1."""
        value = self.positive_or_none(key)
        if value is None:
            raise DocumentError(f"{self.origin}: {self.place}{key} is missing")
        return value

    def positive_or_none(self, key: str) -> int | None:
        """A whole number of at least 1, or None if the key is absent or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIZE:
            raise self._wrong(key, f"a whole number from 1 to {LARGEST_SIZE}")
        return value

    def count_or_none(self, key: str) -> int | None:
        """A whole number of at least 0, or None if the key is absent or null."""
        return 0 if self.values.get(key) == 0 else self.positive_or_none(key)

    def counts(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers of at least 0, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(one, int) and one >= 0 for one in value):
            raise self._wrong(key, "a list of whole numbers")
        return tuple(value)

    def positive_list(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers of at least 1, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(one, int) and one >= 1 for one in value):
            raise self._wrong(key, "a list of positive whole numbers")
        return tuple(value)

    def flag(self, key: str) -> bool:
        """True or false; absent means false."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def text_or_none(self, key: str) -> str | None:
        """A string, or None."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def strings(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._wrong(key, "a list of strings")
        return tuple(value)

    def dtype(self) -> str | None:
        """`dtype`, or `torch_dtype` as older files call it, without a `torch.` prefix."""
        name = self.text_or_none("dtype") or self.text_or_none("torch_dtype")
        return name.removeprefix("torch.") if name else None

    def rope_scalings(self) -> tuple[tuple[str, float], ...]:
        """(type, factor) of every RoPE section: `rope_scaling`, or `rope_parameters`, plain or per layer type."""
        section = self.section("rope_scaling") or self.section("rope_parameters")
        if section is None:
            return ()
        nested = [section.section(key) for key, value in section.values.items() if isinstance(value, dict)]
        found: list[tuple[str, float]] = []
        for one in [each for each in nested if each is not None] or [section]:
            factor = one.values.get("factor")
            if factor is None:
                factor = 1.0
            if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < LARGEST_SIZE:
                raise one._wrong("factor", "a positive number")
            found.append((one.text_or_none("rope_type") or one.text_or_none("type") or "default", float(factor)))
        return tuple(found)

    def _wrong(self, key: str, expected: str) -> DocumentError:
        return DocumentError(f"{self.origin}: {self.place}{key} is {self.values.get(key)!r}, expected {expected}")
