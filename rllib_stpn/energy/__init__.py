"""Energy of synapses: what a module spends, the meter, and the callbacks of both API stacks."""

from rllib_stpn.energy.callback import EnergyMetricsCallback

__all__ = ["EnergyMetricsCallback"]
