"""The ``vmgateway`` command: checks the flags, and serves."""

from __future__ import annotations

import asyncio
import difflib
import gc
import inspect
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import uvloop
from mitmproxy.options import Options

from vmgw_addons import chain
from vmgw_addons.listener import claim_port
from vmgw_addons.process import Configuration, GatewayMaster, Supervisor, check, shared_directory
from vmgw_addons.sources import FileExchange
from vmgw_addons.state import Configured, InForce, Process, Worker
from vmgw_addons.support import LogStyle, ThreadWriter, logging_in_thread, set_up_logging
from vmgw_core import BUILD, __version__
from vmgw_core.configuration import Settings, help_text, parse
from vmgw_core.errors import ConfigurationError

from .commands import COMMANDS, run_command
from .waiting import waiting_for

logger = logging.getLogger(__name__)

_USAGE = """\
vmgateway needs at least a backend, and a key to verify tokens with:
  vmgateway -enable.auth -auth.publicKeyFiles=public.pem \\
    -read.url=http://localhost:8428 -write.url=http://localhost:8428
vmgateway -help lists all flags. vmgateway credentials, explain, policy, replay,
token and usage -help tell about the other commands.
"""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the gateway until a signal ends it.

    Returns the exit code: 0 after a signal, ``-help``, ``-version`` or a successful ``-dryRun``; 2 if the configuration
    is not valid, after one line on standard error; 1 for a failure at run time.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    environ = os.environ if environ is None else environ
    if not arguments:
        print(_USAGE, end="", file=sys.stderr)
        return 2
    if arguments[0] == "help":
        arguments = [*arguments[1:2], "-help"]
    if arguments[0] in COMMANDS:
        return run_command(arguments[0], arguments[1:], environ)
    try:
        if arguments[0].strip() and not arguments[0].startswith("-"):
            raise ConfigurationError(_no_command(arguments[0]))
        parsed = parse(arguments, environ)
        settings = parsed.settings
        if parsed.help_wanted:
            print(help_text(addon_list(), list(COMMANDS.items())), end="")
            return 0
        if settings.version:
            print(f"vmgateway {__version__} ({BUILD})")
            return 0
        with waiting_for("checking the configuration and what it reads from other servers"):
            check(settings)
        if settings.dry_run:
            print("the configuration is valid")
            return 0
        return launch(settings)
    except ConfigurationError as error:
        print(f"vmgateway: {error}", file=sys.stderr)
        return 2


def _no_command(argument: str) -> str:
    """Describe a wrong first argument without showing it: it may hold a secret."""
    nearest = difflib.get_close_matches(argument[:60], COMMANDS, n=1)
    hint = f"did you mean vmgateway {nearest[0]}?" if nearest else "vmgateway -help lists flags and commands"
    return f"argument 1 is neither a flag nor one of the commands {', '.join(COMMANDS)}: {hint}"


def launch(settings: Settings) -> int:
    """Serve in one process, or in several. Returns the exit code. Raises ``ConfigurationError`` before it serves."""
    # SIGHUP waits until the lifecycle handles it: it neither ends the process during the start nor is lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    set_up_logging(LogStyle.from_settings(settings))
    count = settings.workers
    with ExitStack() as stack:
        for claimed in claim_port(settings):
            stack.enter_context(claimed)
        if count > 1:
            directory = stack.enter_context(shared_directory())
            return Supervisor(count, lambda worker: run(settings, worker), directory).run()
    return run(settings, None)


def run(settings: Settings, worker: Worker | None) -> int:
    """Serve in this process until a signal. Returns the exit code."""
    try:
        with (
            logging_in_thread(LogStyle.from_settings(settings)) as log,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            try:
                return runner.run(serve(settings, worker, log))
            except ConfigurationError as error:  # of a worker that is started again after a file has changed
                logger.error(f"cannot start: {error}")
                return 2
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):  # ignore further signals during the shutdown
            signal.signal(number, signal.SIG_IGN)


def addon_list() -> list[tuple[str, str]]:
    """Return the name and the first line of each addon class, for ``-help``."""
    return [(type(addon).__name__, (inspect.getdoc(addon) or "").partition("\n")[0]) for addon in chain.build()]


async def serve(settings: Settings, worker: Worker | None, log: ThreadWriter[str]) -> int:
    """Run until shut down. Returns the exit code."""
    in_force = InForce()
    if worker is not None:
        in_force.configured = Configured(exchange=FileExchange(worker.directory, worker.slot))
    addons = chain.build(in_force, Process(worker=worker, log=log))
    master = GatewayMaster(Options(), addons, asyncio.get_running_loop())
    try:
        configuration = next(addon for addon in addons if isinstance(addon, Configuration))
        configuration.start(settings)
        gc.collect()
        gc.freeze()  # keep the objects of the start out of later collections
        await master.run()
    except SystemExit as end:  # mitmproxy's error check, if the listener cannot start
        return int(str(end.code)) if end.code else 0
    return 0
