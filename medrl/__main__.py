"""``python -m medrl``: compose, check, hand over to the run. Imports no torch."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NoReturn

from medrl.config import compose, extensions, frozen, options
from medrl.config.version import __version__
from medrl.errors import ConfigError, Problem, UserError, exit_code
from medrl.jobs import die_with_parent

if TYPE_CHECKING:
    from omegaconf import DictConfig


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError([Problem("flags", f"{message}; python -m medrl --help shows what can be written")])


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides; ``of_hydra``: Hydra itself answers. Raises `ConfigError` for a flag that there is not."""
    parser = _Parser(prog="python -m medrl", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for names in (["--help", "-h"], ["--version"], ["--multirun", "-m"], ["--run", "-r"], ["--resolve"]):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    for names in (["--package", "-p"], ["--config-dir", "-cd"]):
        parser.add_argument(*names)
    for names in (["--hydra-help"], ["--shell-completion", "-sc"]):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    arguments, unknown = parser.parse_known_intermixed_args(list(argv))
    if flags := [word for word in unknown if word.startswith("-")]:
        message = f"is no flag; options are written key=value{_as_option(flags[0], argv)}"
        raise ConfigError([Problem(flags[0].partition("=")[0], message)])
    if arguments.config_dir:  # as Hydra has it in the configuration
        arguments.overrides.append(f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]")
    arguments.of_hydra = arguments.hydra_help or arguments.shell_completion or arguments.info or arguments.cfg in ("hydra", "all")
    return arguments


def _as_option(flag: str, argv: Sequence[str]) -> str:
    """How a flag and its value are written here."""
    key, _, value = flag.lstrip("-").partition("=")
    place = argv.index(flag) + 1 if flag in argv else len(argv)  # argparse takes letters of a word that holds several flags apart
    value = value or (argv[place] if place < len(argv) and "=" not in argv[place] else "VALUE")
    return f": {key.replace('-', '_')}={value}"


def main() -> int:
    """Answer mistakes in one message each, without a traceback; 0 when all went well."""
    if die_with_parent.VARIABLE in os.environ:
        die_with_parent.die_with_parent(os.getppid())
    try:
        return exit_code(lambda: _dispatch(sys.argv[1:]))
    except KeyboardInterrupt:
        print("medrl: stopped before anything was started.", file=sys.stderr)
        return 130


def _dispatch(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    extensions.name(arguments.overrides)
    if arguments.version:
        print(f"medrl {__version__}")
    elif any(word.startswith("chain=") for word in arguments.overrides):
        from medrl.jobs import chain

        if arguments.of_hydra:
            raise UserError("A chain takes overrides, -m, --cfg job and --help.")
        show = "file" if arguments.help else "configurations" if arguments.cfg else None
        return chain.main(arguments.overrides, several=arguments.multirun, show=show)
    elif arguments.of_hydra:
        return _hydra()
    elif arguments.help:
        print(help_text(arguments.overrides))
    elif arguments.cfg:
        print(config_text(arguments.overrides, arguments.package, resolve=arguments.resolve))
    elif arguments.multirun:
        from medrl.jobs import multirun

        return multirun.main(arguments.overrides)
    else:
        composed = compose.compose(arguments.overrides)
        from medrl import lifecycle

        lifecycle.run(composed.tree, composed.run)
    return 0


def _hydra() -> int:
    """What Hydra answers itself: its own help, its configuration, the completion of a shell."""
    import hydra

    sys.argv[0] = "medrl"  # completion is installed for the program of this name, also by `python -m medrl`
    answered = hydra.main(version_base="1.3", config_path=str(frozen.root("conf")), config_name="config")(lambda cfg: None)
    if not any(word.startswith("query=") for word in sys.argv):
        answered()
        return 0
    with redirect_stdout(StringIO()) as offered:
        answered()
    print(re.sub(r"\S*=_\S*\s?", "", offered.getvalue()), end="")  # a file that begins with _ is no option
    return 0


def config_text(overrides: Sequence[str], package: str | None, *, resolve: bool) -> str:
    """The composed configuration as YAML, ``auto`` and tuned values filled in."""
    return _text(compose.shown(overrides), package, resolve=resolve)


def _text(cfg: DictConfig, package: str | None, *, resolve: bool) -> str:
    from omegaconf import OmegaConf

    if resolve:
        cfg = OmegaConf.create(compose.plain(cfg))
    else:
        del cfg["hydra"]
    part = OmegaConf.select(cfg, package) if package else cfg
    return OmegaConf.to_yaml(part).rstrip() if OmegaConf.is_config(part) else str(part)


def help_text(overrides: Sequence[str]) -> str:
    """The text of ``hydra.help``, with our groups and their options, and the configuration, in it."""
    cfg = compose.shown(overrides)
    groups = "\n".join(f"{group}: {', '.join(options.group_options(group))}" for group in options.groups())
    template = Template(str(cfg.hydra.help.template))
    return template.safe_substitute(APP_CONFIG_GROUPS=groups, CONFIG=_text(cfg, None, resolve=False)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
