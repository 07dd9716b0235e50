"""Options of RLlib's old command line that no longer mean anything: they are accepted, with a note on what to use."""

import argparse

_TORCH = "torch is the only framework"
_CLUSTER = "join a cluster with --ray-address"
_RESOURCES = "they follow from num_env_runners and its like in --config"
_WANDB = "--track wandb, with its options under `track` in the file"
_CHECKPOINT = "the checkpoint has it"
#: Names -> how many values the option takes, and what to do instead.
OF_TRAIN = {
    ("--framework",): (1, _TORCH),
    ("--torch",): (0, _TORCH),
    ("--eager",): (0, _TORCH),
    ("--trace",): (0, _TORCH),
    ("--type", "-t"): (1, "the end of the file's name tells: .py is Python, all else YAML"),
    ("--local-mode",): (0, "with num_env_runners 0 in --config all runs in the trial's own process"),
    ("--checkpoint-at-end",): (0, "there is always one, unless checkpoint_config says otherwise"),
    ("--checkpoint-score-attr",): (1, "give checkpoint_config: {checkpoint_score_attribute: ...} in the file"),
    ("--export-formats",): (1, "a checkpoint has the module's weights"),
    ("--upload-dir",): (1, "--storage-path takes a URI, too"),
    ("--sync-on-checkpoint",): (0, "--storage-path takes a URI, too"),
    ("--resources-per-trial",): (1, _RESOURCES),
    ("--trial-resources",): (1, _RESOURCES),
    ("--repeat",): (1, "--num-samples takes its place"),
    ("--queue-trials",): (0, "trials always wait for their resources"),
    ("--ray-ui",): (0, "a cluster (--ray-address) has its own"),
    ("--no-ray-ui",): (0, "a Ray started here has none"),
    ("--redis-address",): (1, _CLUSTER),
    ("--ray-num-gpus",): (1, "GPUs are found; num_gpus_per_learner in --config asks for them"),
    ("--ray-num-nodes",): (1, _CLUSTER),
    ("--ray-num-local-schedulers",): (1, _CLUSTER),
    ("--ray-memory",): (1, "it is what the machine has"),
    ("--ray-redis-max-memory",): (1, "Ray takes what it needs"),
    ("--ray-object-store-memory",): (1, _CLUSTER),
    ("--wandb-key",): (1, _WANDB),
    ("--wandb-project",): (1, _WANDB),
    ("--wandb-run-name",): (1, _WANDB),
}
OF_EVALUATE = {
    ("--run", "--algo"): (1, _CHECKPOINT),
    ("--env",): (1, _CHECKPOINT),
    ("--config",): (1, _CHECKPOINT),
    ("--steps",): (1, "--episodes N takes its place"),
    ("--render",): (0, "--video FILE takes its place"),
    ("--no-render",): (0, "nothing is shown without --video"),
    ("--monitor",): (0, "--video FILE takes its place"),
    ("--video-dir",): (1, "--video FILE takes its place"),
    ("--save-info",): (0, "--out FILE writes the results"),
    ("--use-shelve",): (0, "--out FILE writes the results"),
    ("--track-progress",): (0, "-v shows each episode"),
    ("--local-mode",): (0, "all runs in one process"),
}
#: Commands that have another name.
COMMANDS = {"rollout": "evaluate"}


def add(parser: argparse.ArgumentParser, options: dict[tuple[str, ...], tuple[int, str]]) -> None:
    """Adds options that are accepted without effect; ``args.gone`` has a line for each that is given."""
    for names, (values, instead) in options.items():
        parser.add_argument(
            *names, dest="gone", action=_Gone, nargs=values, const=instead, default=[], help=argparse.SUPPRESS
        )


class _Gone(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        namespace.gone = [*namespace.gone, f"{option_string} no longer means anything: {self.const}"]
