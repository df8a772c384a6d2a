"""What the parts of the card share."""

from pydantic import BaseModel, ConfigDict, Field


class CardPart(BaseModel):
    """A frozen part of the card; unknown keys and values that are not finite are refused."""

    # A limit or rate that is not a number would compare as false, and so pass.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(CardPart):
    """One measured rate or score with its sample size and 95 % interval."""

    value: float
    n: int = Field(ge=0)
    low: float | None = None
    high: float | None = None
    count: int | None = None
