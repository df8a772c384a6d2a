"""Settings of the service; every one has an environment twin, ``TWONINES_`` and its name."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from twonines.errors import SettingsError


class ServeSettings(BaseSettings):
    """What a service needs to know; built in the command, never at import."""

    model_config = SettingsConfigDict(
        env_prefix="TWONINES_", frozen=True, extra="forbid", protected_namespaces=()
    )

    model: Path | None = None
    model_dir: Path | None = None
    default_model: str | None = None
    references: Path | None = None
    watch_state: Path | None = None
    console: bool = False
    two_person: bool = False
    login_idle_s: float = Field(default=3600.0, gt=0)
    login_max_s: float = Field(default=12 * 3600.0, gt=0)
    insecure_no_login: bool = False
    trusted_proxies: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    execution_provider: Literal["auto", "cpu", "openvino"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    decode_workers: int | None = Field(default=None, ge=1)
    # Untuned, it is a processor that runs: more in a batch gain nothing there, and all wait longer.
    max_batch_size: int = Field(default=8, ge=1, le=1024)
    max_wait_ms: float = Field(default=5.0, ge=0, le=1000)
    queue_size: int = Field(default=256, ge=1)
    max_predicted_s: float = Field(default=10.0, gt=0)
    max_bytes: int = Field(default=20 * 2**20, ge=1)
    max_body_bytes: int = Field(default=256 * 2**20, ge=1)
    max_pixels: int = Field(default=40_000_000, ge=1)
    max_decode_pixels: int = Field(default=80_000_000, ge=1)
    max_inflight_bytes: int = Field(default=512 * 2**20, ge=1)
    max_tiles: int = Field(default=1024, ge=1)
    max_files: int = Field(default=64, ge=1)
    max_recent_bytes: int = Field(default=64 * 2**20, ge=0)
    upload_timeout_s: float = Field(default=30.0, gt=0)
    request_timeout_s: float = Field(default=30.0, gt=0)
    session_timeout_s: float = Field(default=30.0, gt=0)
    drain_delay_s: float = Field(default=0.0, ge=0)
    log_format: Literal["text", "json"] = "text"
    log_requests: bool = False
    # Without a data directory nothing is recorded.
    data_dir: Path | None = None
    database_url: SecretStr | None = None
    pictures_url: str | None = None
    records_failure: Literal["review", "refuse"] = "review"
    keep_pictures: Literal["all", "ng-review", "none"] = "ng-review"
    keep_ok_share: float = Field(default=0.0, ge=0, le=1)
    retention_days: float | None = Field(default=None, gt=0)
    ok_picture_days: float | None = Field(default=None, gt=0)
    reviewers: int = Field(default=1, ge=1, le=5)
    review_ok_share: float = Field(default=0.0, ge=0, le=1)

    @property
    def plain_database_url(self) -> str | None:
        """The URL with its password, for the database alone."""
        return self.database_url.get_secret_value() if self.database_url else None

    @classmethod
    def build(cls, **given: Any) -> Self:
        """Settings from flags and environment.

        Raises:
            SettingsError: a value is outside its range; the message names key and value.
        """
        try:
            built = cls(**given)
        except ValidationError as exc:
            first = exc.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "settings"
            raise SettingsError(f"{key}: {first['msg']}, got {first['input']!r}") from exc
        if (built.model is None) == (built.model_dir is None):
            got = "none" if built.model is None else "both"
            raise SettingsError(
                "model: must be given as --model or TWONINES_MODEL, or many as --model-dir or "
                f"TWONINES_MODEL_DIR, got {got}"
            )
        return built
