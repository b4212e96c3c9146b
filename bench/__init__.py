"""The harness: data, channel, budget, metrics, statistics, runner, training, figures; it owns all that is counted."""
