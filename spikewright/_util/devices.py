"""Devices by name."""

import torch

from spikewright.errors import ConfigError


def usable_device(asked: str, device: object, others: str = "'cpu'") -> torch.device:
    """Return a device, after a check that tensors can be made there.

    Args:
        asked: Argument or setting that names the device, with its value, for the message.
        device: Device, or its name.
        others: What to use instead.  Default: "'cpu'".

    Raises:
        ConfigError: The device does not exist, or cannot be used here.
    """
    try:
        if not isinstance(device, str | torch.device):
            raise TypeError("a device is a torch.device, or its name")
        found = torch.device(device)
        torch.empty(0, device=found)
    except (TypeError, RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0].removesuffix(".")
        raise ConfigError(f"{asked} cannot be used here: {why}. Use {others}.") from error
    return found
