"""The command line: its options, and what it says about itself."""

import argparse
from pathlib import Path

SHORT_HELP = """\
Distil text encoders on a SLURM cluster, or on this machine.

  python launch/slurm.py --job demo --cluster local  run a small job, in minutes
  python launch/slurm.py --job NAME --dry-run        see what a job would do
  python launch/slurm.py --status                    see how the runs are

--list names every job, --help explains all options with examples."""

DESCRIPTION = "Start a job on a SLURM cluster or on this machine, or look at a run."

EXAMPLES = """\
settings:
  section.key=value reaches every stage that has the key, and
  stage.section.key=value one stage. The same --run-id continues a run: complete
  stages are skipped, training resumes from its last checkpoint.

examples (RUN is a run folder, or its job/run_id in the folder of the runs):
  python launch/slurm.py --list
  python launch/slurm.py --job tinybert --options learning_rate
  python launch/slurm.py --job tinybert data.train=train.tsv --dry-run
  python launch/slurm.py --job tinybert data.train=train.tsv --plan
  python launch/slurm.py --job tinybert data.train=train.tsv --cluster local
  python launch/slurm.py --job tinybert data.train=train.tsv --run-id first \\
      --cluster my_site.yaml --rehearse
  python launch/slurm.py --status tinybert/first --follow
  python launch/slurm.py --logs tinybert/first distill --follow
  python launch/slurm.py --cancel tinybert/first

exit status: 0 all is well; 1 something failed at run time; 2 something was
wrong, and nothing was started."""

VERBS = ("job", "list", "status", "logs", "cancel", "sync")

MODES = ("dry_run", "plan", "calibrate")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; leave with a message and status 2 if it does not make sense."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    chosen = [f"--{verb}" for verb in VERBS if getattr(options, verb) not in (None, False)]
    if len(chosen) != 1:
        which = f"not with {' and '.join(chosen)} together" if chosen else "there is none"
        parser.error(f"say what to do with one of {', '.join(f'--{verb}' for verb in VERBS)}, {which}")
    if options.overrides and not (options.job or options.logs):
        parser.error("settings need a --job")
    if options.options is not None and not options.job:
        parser.error("--options needs a --job, whose settings are shown")
    modes = [f"--{mode.replace('_', '-')}" for mode in MODES if getattr(options, mode)]
    if len(modes) > 1:
        parser.error(f"not {' and '.join(modes)} together")
    if (options.plan or options.calibrate) and not options.job:
        parser.error(f"{modes[0]} needs a --job")
    if options.rows and not options.plan:
        parser.error("--rows goes with --plan")
    if options.follow and not (options.status or options.logs):
        parser.error("--follow goes with --status RUN or --logs RUN")
    if options.logs and len(options.overrides) > 1:
        parser.error(f"--logs shows one stage at a time, not {', '.join(options.overrides)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launch/slurm.py",
        usage="launch/slurm.py --job NAME [options] [section.key=value ...]\n       "
        "launch/slurm.py --list | --status [RUN] | --logs RUN [STAGE]\n       "
        "launch/slurm.py --cancel RUN | --sync RUN",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    starting = parser.add_argument_group("start a job")
    looking = parser.add_argument_group("look at a run, or end it")
    _add_start_options(starting)
    _add_look_options(looking)
    both = parser.add_argument_group("where")
    both.add_argument(
        "--cluster", default="slurm", help="a profile in configs/clusters, or a YAML file (default: slurm)"
    )
    both.add_argument("--runs-dir", type=Path, help="where runs are kept (default: the profile's, else runs)")
    return parser


def _add_start_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--job", metavar="NAME", help="the job to start")
    group.add_argument("--list", action="store_true", help="name every job")
    group.add_argument(
        "--options",
        nargs="?",
        const="",
        metavar="WORD",
        help="show every setting of the job, its default and its meaning, or those that mention WORD",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="show the stages, what differs from the defaults, and an sbatch file"
    )
    group.add_argument(
        "--plan",
        action="store_true",
        help="show what each stage would cost, here and on 1 to 64 GPUs: steps, hours, memory, disk, money",
    )
    group.add_argument(
        "--rows",
        action="append",
        default=[],
        metavar="STAGE=N",
        help="with --plan: how many training rows a stage makes, where its files are not there to be counted",
    )
    group.add_argument(
        "--calibrate",
        action="store_true",
        help="time the job's training steps on this machine, for every later --plan on such a device",
    )
    group.add_argument("--verbose", action="store_true", help="with --dry-run: all settings and every sbatch file")
    group.add_argument(
        "--rehearse", action="store_true", help="first run every stage here, on a little of the data and for two steps"
    )
    group.add_argument(
        "--seeds",
        type=int,
        choices=range(1, 101),
        default=1,
        metavar="N",
        help="repeat the stages that depend on chance with N seeds: train.seed, train.seed + 1, ... (default: 1)",
    )
    group.add_argument("--run-id", help="name of the run (default: date and time); the same name continues it")
    group.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="settings, applied before those on the command line"
    )
    group.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings, such as train.steps=300")


def _add_look_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--status",
        nargs="?",
        const="",
        metavar="RUN",
        help="state, step, loss and time left of each stage of a run; without RUN: a list of the runs",
    )
    group.add_argument(
        "--logs",
        metavar="RUN [STAGE]",
        help="newest log of the first rank of a stage (default: of the stage that runs)",
    )
    group.add_argument("--cancel", metavar="RUN", help="end all jobs of a run, after a question; what is saved stays")
    group.add_argument("--sync", metavar="RUN", help="upload to W&B what a run has kept while it was offline")
    group.add_argument(
        "--follow", action="store_true", help="with --status or --logs: go on until all is complete or failed"
    )
    group.add_argument("--yes", action="store_true", help="with --cancel: do not ask")
