"""What tests of video share."""

import torch


def awake(module):
    """What begins at zero is set going."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()
