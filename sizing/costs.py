"""Costs: what a site's hardware costs its operator, as declared in `request.yml`; no price is ever guessed.

Bought or rented, with power, the site's other costs, and the share of the capacity that is really used. The names are
those of the file for `recommend --buy` (sizing/prices.py), which may be given here with a utilization added.
"""

from typing import Self

from pydantic import Field, model_validator

from sizing.documents import Document, Part

HOURS_A_YEAR = 8766


class GpuPrice(Part):
    """One GPU."""

    price: float = Field(ge=0)
    power_watts: float | None = Field(default=None, gt=0)


class HostPrice(Part):
    """The machine around the GPUs."""

    price: float = Field(default=0.0, ge=0)
    power_watts: float = Field(default=0.0, ge=0)
    gpus_at_most: int = Field(default=8, ge=1, le=16)


class Costs(Document):
    """What the engine hosts cost. Without `gpus`, `host` is a whole machine with all that is in it."""

    currency: str = Field(default="EUR", min_length=1, max_length=8, pattern=r"^[^{}<>]+$")
    years: float = Field(default=3.0, gt=0, le=20, description="over which what was bought is written off")
    gpus: dict[str, GpuPrice] = Field(default_factory=dict, description="bought; by NVML's name")
    host: HostPrice = HostPrice()
    rent_per_month: float | None = Field(default=None, gt=0, description="of all engine hosts, instead of purchase")
    power_price_per_kwh: float = Field(default=0.0, ge=0)
    pue: float = Field(default=1.0, ge=1, le=5, description="power of the building per power of the machines")
    other_per_month: float = Field(default=0.0, ge=0, description="people, space, network, gateway hosts")
    utilization_ratio: float = Field(
        gt=0, le=1, description="share of the month in which the models' `load` is there: capacity really used"
    )

    @model_validator(mode="after")
    def _bought_or_rented(self) -> Self:
        bought = self.host.price + sum(one.price for one in self.gpus.values())
        if self.rent_per_month is not None and bought > 0:
            raise ValueError("rent_per_month and purchase prices would count the hardware twice; give one of them")
        if self.rent_per_month is None and bought == 0:
            raise ValueError(
                "nothing says what the hardware costs; give gpus and host with their price, or rent_per_month"
            )
        if self.power_price_per_kwh > 0 and not self.gpus and self.host.power_watts == 0:
            raise ValueError("power_price_per_kwh has no power to multiply; give host.power_watts, or gpus by name")
        return self
