"""The `train` section: optimiser, schedule, checkpoints, devices (names follow TAO's depth_net spec)."""

from __future__ import annotations

from dataclasses import dataclass, field

from search_spaces.spec.keys import Acts, key

SCHEDULERS = ("MultiStepLR", "StepLR", "LambdaLR", "PolynomialLR", "OneCycleLR", "CosineAnnealingLR")
OPTIMIZER, SCHEDULER = "train.optim.optimizer", "train.optim.lr_scheduler"
NO_IMAGES = "training writes numbers; pictures come from depth_net inference"
NO_TILES = "training takes crops; evaluate and inference take tiles with augmentation.evaluation=tile"


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimiser and learning-rate schedule.  A schedule advances every optimiser step, after a linear warm-up."""

    optimizer: str = key("AdamW", "the optimiser; SGD for stereo alone", options=("AdamW", "SGD"))
    monitor_name: str = key(
        "val_loss",
        "metric a plateau schedule would watch",
        options=("val_loss", "train_loss"),
        acts=Acts.INERT,
        why="no schedule watches a metric; the objective is chosen with --metric",
    )
    lr: float = key(
        1e-4, "learning rate; the head of mono networks takes 10 times as much", low=1e-6, high=1e-2, above=0.0, automl=True, log=True
    )
    momentum: float = key(
        0.9,
        "momentum of SGD, under every schedule",
        acts=Acts.STEREO,
        low=0.0,
        high=1.0,
        above=0.0,
        automl=True,
        when=(OPTIMIZER, ("SGD",)),
    )
    weight_decay: float = key(1e-4, "weight decay; 0 switches it off", low=1e-6, high=1e-2, above=0.0, off=0.0, automl=True, log=True)
    lr_scheduler: str = key(
        "MultiStepLR",
        "how the learning rate moves over the whole run; LambdaLR and PolynomialLR fall linearly to 0; OneCycleLR rises for 30 % and falls "
        "to nothing, and moves beta1 of AdamW from 0.95 to 0.85 and back",
        options=SCHEDULERS,
        aliases={"MultiStep": "MultiStepLR"},
    )
    lr_steps: tuple[int, ...] = key(
        (1000,),
        "MultiStepLR: steps after which the rate is multiplied by lr_decay",
        low=1,
        unit="steps",
        when=(SCHEDULER, ("MultiStepLR",)),
    )
    lr_step_size: int = key(
        1000, "StepLR: period", low=1, high=10000, above=0, unit="steps", automl=True, log=True, when=(SCHEDULER, ("StepLR",))
    )
    lr_decay: float = key(
        0.1, "MultiStepLR and StepLR: factor", low=0.0, high=1.0, above=0.0, automl=True, when=(SCHEDULER, ("MultiStepLR", "StepLR"))
    )
    min_lr: float = key(
        1e-7,
        "CosineAnnealingLR: rate at the end",
        low=1e-8,
        high=1e-3,
        above=0.0,
        off=0.0,
        automl=True,
        log=True,
        when=(SCHEDULER, ("CosineAnnealingLR",)),
    )
    warmup_steps: int = key(
        20,
        "steps over which the rate rises linearly, at most half of the run; MultiStepLR and StepLR count from the first of them, the other "
        "schedules (OneCycleLR with a rise of its own too) begin after the last",
        low=0,
        unit="steps",
    )


@dataclass(frozen=True, kw_only=True)
class Cudnn:
    """cuDNN switches."""

    benchmark: bool = key(False, "let cuDNN time its algorithms", acts=Acts.RUNNING)
    deterministic: bool = key(True, "deterministic cuDNN algorithms only", acts=Acts.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Train:
    """How a run trains."""

    num_gpus: int = key(1, "GPUs of one run on one machine; batch_size is that of each", low=1, high=64, acts=Acts.RUNNING, popular=True)
    gpu_ids: tuple[int, ...] = key((0,), "numbers of the GPUs", low=0, acts=Acts.RUNNING, popular=True)
    num_nodes: int = key(1, "machines", low=1, acts=Acts.RUNNING, popular=True)
    seed: int = key(1234, "seed of everything random; below 0: not seeded", low=-1)
    cudnn: Cudnn = field(default_factory=Cudnn)
    num_epochs: int = key(10, "length of the run and of its learning-rate schedule", low=1, unit="epochs", popular=True)
    checkpoint_interval: int = key(1, "distance of checkpoints", low=1, acts=Acts.RUNNING, popular=True)
    checkpoint_interval_unit: str = key("epoch", "unit of checkpoint_interval", options=("epoch", "step"), acts=Acts.RUNNING)
    checkpoint_interval_steps: int | None = key(
        None,
        "distance of checkpoints in steps",
        low=1,
        acts=Acts.INERT,
        why="checkpoint_interval with checkpoint_interval_unit: step says it",
    )
    validation_interval: int = key(1, "distance of validations", low=1, unit="epochs", acts=Acts.RUNNING, popular=True)
    resume_training_checkpoint_path: str | None = key(None, "full state to continue from", acts=Acts.TRAINING)
    resume: str = key(
        "never",
        "go on from the folder's dn_model_latest.pth: never (a folder that holds a run is refused), auto (if there is one), must",
        options=("never", "auto", "must"),
    )
    pretrained_model_path: str | None = key(None, "weights to start from")
    results_dir: str | None = key(None, "output folder; default is results_dir/train", acts=Acts.RUNNING)
    clip_grad_norm: float = key(0.1, "largest norm of the gradient; 0 switches clipping off", low=0.0)
    dataloader_visualize: bool = key(False, "log training images", acts=Acts.INERT, why=NO_IMAGES)
    vis_step_interval: int = key(10, "distance of logged images", low=1, unit="steps", acts=Acts.INERT, why=NO_IMAGES)
    is_dry_run: bool = key(False, "one batch of training and validation, no checkpoint", acts=Acts.RUNNING)
    optim: Optim = field(default_factory=Optim)
    precision: str = key("fp32", "arithmetic: fp32; fp16 for stereo on a GPU; bf16 for mono", options=("bf16", "fp32", "fp16"))
    distributed_strategy: str = key(
        "ddp",
        "what each of several GPUs holds: the whole network (ddp), or a part of its weights and optimizer (fsdp, in 16 bit)",
        options=("ddp", "fsdp"),
        acts=Acts.RUNNING,
    )
    activation_checkpoint: bool = key(
        False,
        "run encoder blocks (mono) or refinement steps (stereo) again in the backward pass: the same gradients, less memory, more time",
        acts=Acts.RUNNING,
    )
    inference_tile: bool = key(False, "tiled inference", acts=Acts.INERT, why=NO_TILES)
    tile_wtype: str = key("gaussian", "weights of tiles", acts=Acts.INERT, why=NO_TILES)
    tile_min_overlap: tuple[int, int] = key((16, 16), "overlap of tiles", unit="px", acts=Acts.INERT, why=NO_TILES)
    log_every_n_steps: int = key(500, "distance of logged steps", low=1, unit="steps", acts=Acts.RUNNING)
