"""The `dataset` section: lists, loaders, augmentation and the way of evaluation (names follow TAO's depth_net spec)."""

from __future__ import annotations

from dataclasses import dataclass, field

from search_spaces.spec.keys import Acts, key
from search_spaces.spec.model import WIDEST

STEREO, MONO, TRAINING = Acts.STEREO, Acts.MONO, Acts.TRAINING
EVALUATION, RUNNING, INERT = Acts.EVALUATION, Acts.RUNNING, Acts.INERT
FLIP = "dataset.train_dataset.augmentation.do_flip"
# why stereo augmentation does nothing in mono
ONE_IMAGE = "there is no right image"
TRUE_COLOURS = "mono training leaves colours as they are, as TAO's does"
NO_BLUR = "mono training has no resampling blur, and TAO's has none"


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One annotation list.  `data_root` (ours) is where its relative paths start; `depth_scale` (ours) turns PNG values into metres."""

    data_file: str
    dataset_name: str
    data_root: str | None = None
    depth_scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Preparation of the images.  Random parts act on the train split alone: validation is never augmented."""

    input_mean: tuple[float, float, float] = key(
        (0.485, 0.456, 0.406), "mean of red, green, blue after division by 255", outside=EVALUATION
    )
    input_std: tuple[float, float, float] = key((0.229, 0.224, 0.225), "standard deviation of red, green, blue", outside=EVALUATION)
    crop_size: tuple[int, int] = key(
        (518, 518),
        "height and width: the training crop; in mono also the size that images are resized to; multiples of 32 (stereo) or 14 (mono)",
        low=1,
        unit="px",
        outside=EVALUATION,
    )
    evaluation: str = key(
        "native",
        "how val and test images meet the network: native size padded, the middle crop_size, resized or padded to crop_size; "
        "tile: stereo test and infer images in overlapping tiles of crop_size, blended",
        options=("native", "center_crop", "resize", "pad", "tile"),
        acts=INERT,
        outside=EVALUATION,
        why="training draws crops of crop_size",
    )
    # TAO declares 0.2 as the lower bound, which its own default breaks
    min_scale: float = key(
        -0.2, "lower bound of the log2 scale of the resampling blur", low=-1.0, high=1.0, acts=STEREO, outside=INERT, why=NO_BLUR
    )
    max_scale: float = key(
        0.4, "upper bound of the log2 scale of the resampling blur", low=-0.2, high=1.0, acts=STEREO, outside=INERT, why=NO_BLUR
    )
    do_flip: bool = key(
        False,
        "flip images: mono left to right by h_flip_prob, stereo upside down by v_flip_prob (TAO's h, hf and v are read so)",
        outside=INERT,
    )
    yjitter_prob: float = key(
        1.0, "probability of moving the right crop by up to 2 rows", low=0, high=1, acts=STEREO, outside=INERT, automl=True, why=ONE_IMAGE
    )
    gamma: tuple[int, int, int, int] = key((1, 1, 1, 1), "gamma range", acts=INERT, why="no transform reads it, in TAO neither")
    color_aug_prob: float = key(
        0.2,
        "probability that left and right get different colour jitter",
        low=0,
        high=1,
        acts=STEREO,
        outside=INERT,
        automl=True,
        why=TRUE_COLOURS,
    )
    color_aug_brightness: float = key(
        0.4, "half range of the brightness factor", low=0, high=1, acts=STEREO, outside=INERT, why=TRUE_COLOURS
    )
    color_aug_contrast: float = key(0.4, "half range of the contrast factor", low=0, high=1, acts=STEREO, outside=INERT, why=TRUE_COLOURS)
    color_aug_saturation: tuple[float, float] = key(
        (0.0, 1.4), "range of the saturation factor", low=0.0, acts=STEREO, outside=INERT, why=TRUE_COLOURS
    )
    color_aug_hue_range: tuple[float, float] = key(
        (-5 / 180, 5 / 180), "range of the hue shift, in turns", low=-0.5, high=0.5, acts=STEREO, outside=INERT, why=TRUE_COLOURS
    )
    eraser_aug_prob: float = key(
        0.5,
        "probability of painting rectangles over the right image",
        low=0,
        high=1,
        acts=STEREO,
        outside=INERT,
        automl=True,
        why=ONE_IMAGE,
    )
    spatial_aug_prob: float = key(
        1.0, "probability of the resampling blur", low=0, high=1, acts=STEREO, outside=INERT, automl=True, why=NO_BLUR
    )
    stretch_prob: float = key(
        0.8, "probability of different scales in x and y", low=0, high=1, acts=STEREO, outside=INERT, automl=True, why=NO_BLUR
    )
    max_stretch: float = key(0.2, "half range of the log2 stretch", low=0, high=1, acts=STEREO, outside=INERT, why=NO_BLUR)
    h_flip_prob: float = key(
        0.5,
        "probability of a mirror image",
        low=0,
        high=1,
        acts=MONO,
        outside=INERT,
        automl=True,
        when=(FLIP, (True,)),
        why="a mirrored pair needs the right view's disparity, which annotation lists do not carry",
    )
    v_flip_prob: float = key(
        0.5,
        "probability of turning the pair upside down",
        low=0,
        high=1,
        acts=STEREO,
        outside=INERT,
        automl=True,
        when=(FLIP, (True,)),
        why="depth from one image leans on which way is up, so that images are never turned upside down",
    )
    hshift_prob: float = key(
        0.5,
        "probability of moving the right crop sideways, which adds to every disparity",
        low=0,
        high=1,
        acts=STEREO,
        outside=INERT,
        automl=True,
        why=ONE_IMAGE,
    )
    crop_min_valid_disp_ratio: float = key(
        0.0,
        "share of pixels with ground truth that a crop should have; the best of 100 draws is taken",
        low=0,
        high=1,
        acts=STEREO,
        outside=INERT,
        automl=True,
        why="mono crops are drawn once, as in TAO",
    )


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split: where its lists are and how they are loaded."""

    data_sources: tuple[DataSource, ...] = key(
        (), "annotation lists with their dataset class, read one after the other", outside=EVALUATION
    )
    batch_size: int = key(1, "samples per GPU and step", low=1, outside=RUNNING, popular=True)
    workers: int = key(8, "loader processes; 0 loads in the training process", low=0, acts=RUNNING)
    pin_memory: bool = key(True, "page-locked memory for copies to the GPU", acts=RUNNING)
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Images for post-training quantisation."""

    images_dir: str | None = key(None, "folder or .tar.gz of calibration images; empty: the train lists", acts=RUNNING)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Everything about data.  `dataset_name` and both depths are filled in from the model type when left out."""

    dataset_name: str | None = key(
        None, "family of the data; follows model.model_type", options=("MonoDataset", "StereoDataset"), acts=RUNNING
    )
    normalize_depth: bool = key(False, "scale ground truth to [0, 1] image by image", acts=MONO)
    max_depth: float | None = key(None, "farthest depth of metric models: mask, network scale, clip", low=1.0, unit="m", acts=MONO)
    min_depth: float | None = key(None, "nearest depth of metric models: mask, clip", low=0.0, unit="m", acts=MONO)
    max_disparity: int = key(
        WIDEST, "largest disparity of ground truth that counts; follows model.max_disparity", low=1, high=WIDEST, unit="px", acts=STEREO
    )
    # TAO's defaults (0.193001 m, 1998.842 px) fit one scene of Middlebury: a cloud of another camera would be wrong and look right
    baseline: float | None = key(
        None, "distance between the cameras, for point clouds", low=0.0, unit="m", acts=RUNNING, stereo_only=True, why="one camera has none"
    )
    focal_x: float | None = key(None, "focal length of the images, for point clouds", low=0.0, unit="px", acts=RUNNING)
    principal_x: float | None = key(None, "column of the optical axis, for point clouds; null: the middle", unit="px", acts=RUNNING)
    principal_y: float | None = key(None, "row of the optical axis, for point clouds; null: the middle", unit="px", acts=RUNNING)
    doffs: float = key(
        0.0,
        "right minus left principal_x, for point clouds (doffs in Middlebury's calib.txt)",
        unit="px",
        acts=RUNNING,
        stereo_only=True,
        why="one camera has none",
    )
    cache: str = key(
        "off",
        "decoded: the train and val lists are decoded once into memory-mapped files that all trials of a machine share",
        options=("off", "decoded"),
        acts=RUNNING,
    )
    cache_dir: str | None = key(
        None, "folder of the cache, on a disk of this machine; null: depth-automl in the user's cache", acts=RUNNING
    )
    cache_limit_gib: float = key(
        100.0, "what decoded samples may take in cache_dir, and as much again copies of s3:// objects", above=0.0, unit="GiB", acts=RUNNING
    )
    train_dataset: Split = field(default_factory=Split)
    val_dataset: Split = field(default_factory=Split)
    test_dataset: Split = field(default_factory=Split)
    infer_dataset: Split = field(default_factory=Split)
    quant_calibration_dataset: Calibration = field(default_factory=Calibration)
