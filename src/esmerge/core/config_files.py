"""Config files in every encoding that ``core.text_files`` reads: Hydra reads UTF-8 without a byte order mark only."""

from __future__ import annotations

import io
import os
from pathlib import Path

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from esmerge.core.errors import InputError
from esmerge.core.text_files import read_text


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's own source of ``file://``, with another reader; Hydra takes the first class of this name for it."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The config of a file below this folder, with its ``# @package`` header.

        Raises:
            ConfigLoadError: there is no such file, or it is not text or not YAML; the message names it.
        """
        path = Path(os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path))))
        if not path.exists():
            raise ConfigLoadError(f"Config not found : {path}")
        try:
            text = read_text(path)
            config = OmegaConf.load(io.StringIO(text))
        except InputError as error:
            raise ConfigLoadError(str(error)) from error
        except yaml.YAMLError as error:
            raise ConfigLoadError(
                f"{path} is not YAML: {' '.join(str(error).split())}"
            ) from None  # which names no file
        header = ConfigSource._get_header_dict(text)
        return ConfigResult(config=config, path=f"file://{self.path}", provider=self.provider, header=header)


def read_configs_in_any_encoding() -> None:
    """Let Hydra read configs through ``read_text``; to be called before it composes, any number of times."""
    SourcesRegistry.instance().types["file"] = FileConfigSource
