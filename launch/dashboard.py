"""Make a W&B workspace for a job, or bring one up to date: a dashboard whose panels follow from the job.

python launch/dashboard.py --job tinybert --entity TEAM --project kd_dist
python launch/dashboard.py --job tinybert --print
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
from typing import Any

from kd_dist.config.jobs import job_with_settings
from kd_dist.config.sections.training import Tracking
from kd_dist.errors import RunError, UserError, exit_with_message
from launch.panels import Panel, sections_of

Sections = dict[str, list[Panel]]


def main() -> int:
    """Run the command, and return its exit status."""
    parser = _parser()
    options = parser.parse_intermixed_args()
    if not (options.entity or options.url or options.print):
        parser.error("--entity says whose project it is: a team or a user of W&B")
    sections = sections_of(job_with_settings(options.job, options.overrides))
    if options.print:
        shown = {name: [panel._asdict() for panel in panels] for name, panels in sections.items()}
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    url = save(options, sections)
    print(f"{url}\nto bring it up to date later, give the same command with --url {url!r}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launch/dashboard.py", description="Make a W&B workspace for a job.")
    parser.add_argument("--job", required=True, metavar="NAME", help="the job whose runs it shows")
    parser.add_argument("--entity", metavar="NAME", help="team or user that the project belongs to")
    parser.add_argument(
        "--project", metavar="NAME", default=Tracking().project, help="W&B project (default: %(default)s)"
    )
    parser.add_argument("--url", help="bring this workspace up to date, instead of making another one")
    parser.add_argument("--print", action="store_true", help="only show the panels, as JSON; needs no W&B")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings of the runs, such as data.task=multi_label"
    )
    return parser


def save(options: argparse.Namespace, sections: Sections) -> str:
    """Write the workspace to W&B and return its address.

    Raises:
        UserError: There is no key for W&B, or `--url` is no address of a workspace.
        RunError: W&B did not take it.
    """
    import wandb  # most of a second, which --print does not need
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    from wandb_workspaces import workspaces

    from kd_dist.runs.wandb_run import has_key

    if not has_key():
        raise UserError(
            "there is no key for W&B: `wandb login` keeps one, or set WANDB_API_KEY; --print shows the panels without"
        )
    try:
        if options.url:
            workspace = _existing(options.url)
        else:
            workspace = workspaces.Workspace(entity=options.entity, project=options.project, name=options.job)
        workspace.sections = _sections(sections)
        workspace.runset_settings.filters = f"Tags in ['{options.job}']"  # every run has its job among its tags
        return str(workspace.save().url)
    except (wandb.errors.Error, WandbApiFailedError) as error:
        raise RunError(f"W&B did not take the dashboard: {error}") from error


def _existing(url: str) -> Any:
    """Return the workspace at an address.

    Raises:
        UserError: There is none.
    """
    from wandb_workspaces import workspaces

    try:
        return workspaces.Workspace.from_url(url)
    except ValueError as error:
        raise UserError(
            f"--url {url}: no workspace of W&B; give the address that the command printed ({error})"
        ) from error


def _sections(sections: Sections) -> list[Any]:
    from wandb_workspaces import workspaces

    return [
        workspaces.Section(name=name, panels=[_panel(panel) for panel in panels], is_open=True)
        for name, panels in sections.items()
    ]


def _panel(panel: Panel) -> Any:
    """Return a panel in W&B's terms; runs are drawn over `global_step`, since W&B's own step numbers their rows."""
    from wandb_workspaces.reports import v2 as reports

    if panel.form == "bars":
        return reports.BarPlot(title=panel.title, metrics=panel.keys)
    if panel.form == "pictures":
        return reports.MediaBrowser(title=panel.title, media_keys=panel.keys)
    x = "WallTime" if panel.form == "time" else "global_step"
    return reports.LinePlot(title=panel.title, x=x, y=panel.keys)


if __name__ == "__main__":
    exit_with_message(main)
