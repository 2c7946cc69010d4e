"""What the people who run the bot can set: read once, from a mapping passed in, validated, and frozen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from inference.memory.budgets import Budgets

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("auto", "float16", "bfloat16", "float32", "fp16", "bf16", "fp32")


class SettingsError(ValueError):
    """A setting that cannot be used; the message names its key, its value and what is allowed."""


def _setting(
    default: Any, about: str, *, low: float | None = None, high: float | None = None, secret: bool = False
) -> Any:
    return field(default=default, repr=not secret, metadata={"about": about, "low": low, "high": high})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting; the environment variable of a field is its name in capitals."""

    discord_token: str | None = _setting(
        None, "Token of the bot's Discord application. Without one the bot opens the local preview.", secret=True
    )
    data_dir: Path = _setting(
        ROOT / "data", "Folder for the database and the pictures; the local preview has its own inside it."
    )
    catalog: Path = _setting(ROOT / "models" / "models.toml", "The catalogue of models.")
    devices: str = _setting(
        "auto", "Devices to draw on: auto (all of the best kind), or their names: cuda:0,cuda:1 or xpu, mps, cpu."
    )
    precision: str = _setting("auto", "Precision to draw in: auto, float16, bfloat16 or float32.")
    cache_gib: float | None = _setting(
        None, "Device memory for loaded models, in GiB; by default half of what it has.", low=0.1
    )
    host_cache_gib: float | None = _setting(
        None,
        "System memory for keeping models ready for a GPU, in GiB; by default a quarter of it, shared by all GPUs.",
        low=0,
    )
    disk_cache_gib: float | None = _setting(
        None,
        "Disk space for copies of models in their loaded form, which load faster than the original files, in GiB; by "
        "default a tenth of what is free; 0 keeps none.",
        low=0,
    )
    compile: bool = _setting(
        False,
        "Whether to compile the networks (torch.compile): on or off. Meant for GPUs; the first batch of each size may "
        "then take minutes.",
    )
    max_batch: int = _setting(8, "Most pictures drawn together, a power of two from 4 to 64.", low=4, high=64)
    batch_wait_ms: float = _setting(
        20.0,
        "Milliseconds that two or more orders that can be drawn together may wait for others like them, while such "
        "orders keep coming; 0 means no wait. A single order never waits.",
        low=0,
        high=10_000,
    )
    max_overtakings: int = _setting(
        2,
        "How often an order may be overtaken by one whose model is already in memory; 0 means never. Orders that "
        "can be drawn together share a batch all the same.",
        low=0,
        high=1_000,
    )
    downloads: bool = _setting(
        True, "Whether models are downloaded from the Hugging Face hub when they are first asked for: on or off."
    )
    hf_token: str | None = _setting(None, "Token of a Hugging Face account, for private and gated models.", secret=True)
    hf_home: Path | None = _setting(None, "Folder of the hub's cache; by default ~/.cache/huggingface.")
    hf_endpoint: str | None = _setting(None, "Address of a mirror of the hub.")
    https_proxy: str | None = _setting(
        None, "Proxy for Discord and the hub, http://host:port or http://name:password@host:port.", secret=True
    )
    queue_limit: int = _setting(200, "Most orders that may be waiting in all.", low=1, high=100_000)
    queue_limit_per_user: int = _setting(10, "Most orders that one person may have waiting.", low=1, high=100_000)
    queue_limit_per_server: int = _setting(100, "Most orders that one server may have waiting.", low=1, high=100_000)
    cooldown_s: float = _setting(0.0, "Seconds that one person must leave between two orders.", low=0)
    load_timeout_s: float = _setting(600.0, "Seconds that loading a model may take.", low=1)
    step_timeout_s: float = _setting(120.0, "Seconds that one drawing step may take.", low=1)
    safety_check: str = _setting(
        "required",
        "required: models that could draw explicit pictures draw only with a working safety check. off: nothing is "
        "checked, and all pictures of such models are treated as explicit.",
    )
    keep_pictures_days: float = _setting(
        0.0, "Days after which pictures are deleted, but not their seeds; 0 keeps all.", low=0
    )
    preview_port: int = _setting(8765, "Port of the local preview; 0 takes any free one.", low=0, high=65_535)
    log_level: str = _setting("INFO", "How much is logged: DEBUG, INFO, WARNING or ERROR.")

    def __post_init__(self) -> None:
        if self.max_batch & (self.max_batch - 1):
            raise SettingsError(f"MAX_BATCH must be a power of two; {self.max_batch} is not.")
        if not self.device_names:
            raise SettingsError(f"DEVICES must be auto or names separated by commas, not {self.devices!r}.")
        if self.precision not in PRECISIONS:
            raise SettingsError(f"PRECISION must be one of {', '.join(PRECISIONS)}, not {self.precision!r}.")
        if self.safety_check not in {"required", "off"}:
            raise SettingsError(f"SAFETY_CHECK must be required or off, not {self.safety_check!r}.")
        if self.log_level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise SettingsError(f"LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {self.log_level!r}.")

    @property
    def requires_check(self) -> bool:
        """Whether pictures that may be explicit must be checked."""
        return self.safety_check == "required"

    @property
    def device_names(self) -> tuple[str, ...]:
        """One name per worker."""
        return tuple(name.strip() for name in self.devices.split(",") if name.strip())

    @property
    def home_dir(self) -> Path:
        """The folder of the database and the pictures. The preview, which cannot deliver what people on Discord
        ordered, has its own."""
        return self.data_dir / "preview" if self.discord_token is None else self.data_dir

    @property
    def pictures_dir(self) -> Path:
        return self.home_dir / "pictures"

    @property
    def database_path(self) -> Path:
        return self.home_dir / "bot.sqlite3"

    @property
    def budgets(self) -> Budgets:
        return Budgets(
            device=_bytes(self.cache_gib),
            host=_bytes(self.host_cache_gib),
            disk=_bytes(self.disk_cache_gib),
            folder=self.data_dir / "weights",
        )

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables that libraries read by themselves, where they are set."""
        given = {
            "HF_TOKEN": self.hf_token,
            "HF_HOME": self.hf_home,
            "HF_ENDPOINT": self.hf_endpoint,
            "HTTPS_PROXY": self.https_proxy,
        }
        return {key: str(value) for key, value in given.items() if value is not None}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str | None]) -> Settings:
        """Read the settings; raises ``SettingsError``. An empty value counts as not set."""
        given = {setting.name: (environ.get(setting.name.upper()) or "").strip() for setting in fields(cls)}
        return cls(**{s.name: _parse(s, given[s.name]) for s in fields(cls) if given[s.name]})


def explain() -> str:
    """Every setting with what it does and its default, one per line."""
    lines = []
    for setting in fields(Settings):
        default = "not set" if setting.default is None else _shown(setting.default)
        lines.append(f"  {setting.name.upper():<22} {setting.metadata['about']} [{default}]")
    return "\n".join(lines)


def _parse(setting: Field[Any], text: str) -> Any:
    key, kind = setting.name.upper(), str(setting.type).removesuffix(" | None")
    match kind:
        case "str":
            return text
        case "Path":
            return Path(text).expanduser().resolve()
        case "bool":
            return _switch(key, text)
        case "int" | "float":
            return _number(setting, key, text, int if kind == "int" else float)
        case _:
            raise AssertionError(f"no parser for {kind}")


def _number(setting: Field[Any], key: str, text: str, kind: type[int] | type[float]) -> int | float:
    word = "a whole number" if kind is int else "a number"
    low, high = setting.metadata["low"], setting.metadata["high"]
    value: int | float
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError(f"{key} must be {word}; {text!r} is not.")
    if not (low is None or value >= low) or not (high is None or value <= high):
        bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise SettingsError(f"{key} must be {bounds}, not {text}.")
    return value


def _switch(key: str, text: str) -> bool:
    if text not in {"on", "off"}:
        raise SettingsError(f"{key} must be on or off, not {text!r}.")
    return text == "on"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        return str(value.relative_to(ROOT))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * 2**30)
