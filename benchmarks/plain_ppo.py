"""PPO with an LSTM on the maze in plain torch: what a user without a library would write.

It uses torch's distributions, Adam and gradient clipping as they come, one LSTM call per step when sampling and one per
stretch between episodes when learning. No logging, checkpoints or other environments: a yardstick of speed.
"""

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

GAMMA, LAMBDA, CLIP, EPOCHS = 0.9, 0.95, 0.2, 4
LEARNED_FROM = ("observations", "begins", "actions", "log_p", "advantages", "returns")


class ActorCritic(nn.Module):
    """An LSTM with a policy and a value on top. Time comes first: inputs ``[T, B, 17]``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(17, hidden)
        self.policy = nn.Linear(hidden, 4)
        self.value = nn.Linear(hidden, 1)

    def encode(self, observations, state, begins):
        """Outputs ``[T, B, hidden]`` and the last state; ``begins`` ``[T, B]``, 1 where an episode does."""
        steps = len(observations)
        resets = begins.any(1).nonzero().flatten().tolist() if steps > 1 else []
        edges = [0, *(t for t in resets if t > 0), steps]
        stretches = []
        for start, stop in zip(edges, edges[1:], strict=False):
            alive = (1 - begins[start]).view(1, -1, 1)
            stretch, state = self.lstm(observations[start:stop], (state[0] * alive, state[1] * alive))
            stretches.append(stretch)
        return torch.cat(stretches), state


class PlainPPO:
    """``iterate()`` samples one fragment of every environment and learns from it."""

    def __init__(self, envs: int, steps: int, minibatches: int, hidden: int) -> None:
        self.envs, self.steps, self.rows = envs, steps, envs // minibatches
        self.env = gym.make_vec("stpn_envs:stpn/Maze-v0", num_envs=envs, vectorization_mode="vector_entry_point")
        self.observations = torch.as_tensor(self.env.reset(seed=0)[0])
        self.begins = torch.ones(envs)
        self.agent = ActorCritic(hidden)
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=1e-3)
        self.state = (torch.zeros(1, envs, hidden), torch.zeros(1, envs, hidden))
        self.stored = {
            "observations": torch.zeros(steps, envs, 17),
            "actions": torch.zeros(steps, envs, dtype=torch.long),
            **{name: torch.zeros(steps, envs) for name in ("log_p", "values", "rewards", "begins")},
        }

    def iterate(self) -> None:
        """One fragment and what is learned from it."""
        start = tuple(leaf.clone() for leaf in self.state)
        self.sample()
        self.learn(start)

    @torch.no_grad()
    def sample(self) -> None:
        """Fills the stored arrays, advantages and returns included."""
        stored = self.stored
        for t in range(self.steps):
            stored["observations"][t], stored["begins"][t] = self.observations, self.begins
            hidden, self.state = self.agent.encode(self.observations[None], self.state, self.begins[None])
            choice = Categorical(logits=self.agent.policy(hidden[0]))
            actions = choice.sample()
            stored["actions"][t], stored["log_p"][t] = actions, choice.log_prob(actions)
            stored["values"][t] = self.agent.value(hidden[0]).squeeze(-1)
            observations, rewards, terminated, truncated, _ = self.env.step(actions.numpy())
            stored["rewards"][t] = torch.as_tensor(rewards)
            self.observations = torch.as_tensor(observations)
            self.begins = torch.as_tensor(np.logical_or(terminated, truncated)).float()
        hidden, _ = self.agent.encode(self.observations[None], self.state, self.begins[None])
        next_values, goes_on = self.agent.value(hidden[0]).squeeze(-1), 1 - self.begins
        advantages, running = torch.zeros_like(stored["values"]), torch.zeros(self.envs)
        for t in reversed(range(self.steps)):
            delta = stored["rewards"][t] + GAMMA * goes_on * next_values - stored["values"][t]
            advantages[t] = running = delta + GAMMA * LAMBDA * goes_on * running
            next_values, goes_on = stored["values"][t], 1 - stored["begins"][t]
        stored["advantages"], stored["returns"] = advantages, advantages + stored["values"]

    def learn(self, start: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Four passes over the fragment in minibatches of whole sequences."""
        for _ in range(EPOCHS):
            for rows in torch.randperm(self.envs).split(self.rows):
                batch = {name: self.stored[name][:, rows] for name in LEARNED_FROM}
                state = tuple(leaf[:, rows] for leaf in start)
                hidden, _ = self.agent.encode(batch["observations"], state, batch["begins"])
                choice = Categorical(logits=self.agent.policy(hidden))
                values = self.agent.value(hidden).squeeze(-1)
                ratio = (choice.log_prob(batch["actions"]) - batch["log_p"]).exp()
                advantages = (batch["advantages"] - batch["advantages"].mean()) / (batch["advantages"].std() + 1e-8)
                surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
                value_loss = (values - batch["returns"]).square().mean()
                loss = 0.1 * value_loss - surrogate - 0.01 * choice.entropy().mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), 4.0)
                self.optimizer.step()
