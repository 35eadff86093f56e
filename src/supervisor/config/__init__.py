"""A TOML file to specifications.

[supervisor]                    strategy = "one_for_one"
[defaults]                      what every plugin has unless it says otherwise
[plugins.store]                 command = ["{python}", "plugin.py"]
"""

from supervisor.config.loading import load_config, parse_config
from supervisor.config.schema import config_schema

__all__ = ["config_schema", "load_config", "parse_config"]
