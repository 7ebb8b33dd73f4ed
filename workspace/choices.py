"""Words that the command line, params.yaml and the API let a person choose from: once, and light enough for `vigil --help`."""

from typing import Literal, get_args

Profile = Literal["full", "small", "demo"]
PROFILES: tuple[Profile, ...] = get_args(Profile)  # the three sizes of the same parameters
Mode = Literal["dense", "standard", "fast"]
MODES: tuple[Mode, ...] = get_args(Mode)  # how much of a video is looked at, the most first
Policy = Literal["moderation", "identity_check", "forensics"]
POLICIES: tuple[Policy, ...] = get_args(Policy)  # each a block of `feedback` of this name
LayoutName = Literal["auto", "folder", "csv", "json", "faceforensics", "celebdf", "dfdc", "wilddeepfake", "openforensics", "deepfakebench", "df40", "celeba"]
Split = Literal["official", "own"]  # who says what of a published data set is for testing
