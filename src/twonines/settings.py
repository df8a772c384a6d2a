"""Settings of the service; every one has an environment twin, ``TWONINES_`` and its name."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from twonines.errors import SettingsError


class ServeSettings(BaseSettings):
    """What a service needs to know; built in the command, never at import."""

    model_config = SettingsConfigDict(
        env_prefix="TWONINES_", frozen=True, extra="forbid", protected_namespaces=()
    )

    model: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    execution_provider: Literal["auto", "cpu", "openvino"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    decode_workers: int | None = Field(default=None, ge=1)
    max_batch_size: int = Field(default=32, ge=1, le=1024)
    max_wait_ms: float = Field(default=0.0, ge=0, le=1000)
    queue_size: int = Field(default=256, ge=1)
    max_bytes: int = Field(default=20 * 2**20, ge=1)
    max_body_bytes: int = Field(default=256 * 2**20, ge=1)
    max_pixels: int = Field(default=40_000_000, ge=1)
    max_decode_pixels: int = Field(default=80_000_000, ge=1)
    max_inflight_bytes: int = Field(default=512 * 2**20, ge=1)
    max_files: int = Field(default=64, ge=1)
    max_recent_bytes: int = Field(default=64 * 2**20, ge=0)
    upload_timeout_s: float = Field(default=30.0, gt=0)
    request_timeout_s: float = Field(default=30.0, gt=0)

    @classmethod
    def build(cls, **given: Any) -> Self:
        """Settings from flags and environment.

        Raises:
            SettingsError: a value is outside its range; the message names key and value.
        """
        try:
            return cls(**given)
        except ValidationError as exc:
            first = exc.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "settings"
            if first["type"] == "missing":
                raise SettingsError(
                    f"{key}: must be given as --{key} or TWONINES_{key.upper()}"
                ) from exc
            raise SettingsError(f"{key}: {first['msg']}, got {first['input']!r}") from exc
