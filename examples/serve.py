"""A trained agent behind Ray Serve: one action for each observation, and a state for each session.

    pip install 'ray[serve]'
    python examples/serve.py

A client sends ``{"session": NAME, "observation": [...], "is_first": true}`` and gets ``{"action": 2}``. All requests of
a session have to reach the same replica: there is one here. With more, the states belong into a store for all.
"""

import sys

import numpy as np
from ray import serve

import rllib_stpn

SESSIONS = 10_000  # kept; the oldest goes first


@serve.deployment(num_replicas=1)
class Policy:
    """An agent, and the states of those who ask it."""

    def __init__(self, checkpoint: str) -> None:
        self.agent = rllib_stpn.load(checkpoint)
        self.states: dict = {}

    async def __call__(self, request) -> dict:
        """Answers one request."""
        asked = await request.json()
        return self.act(asked["session"], asked["observation"], asked.get("is_first", False))

    def act(self, session: str, observation: list, is_first: bool = False) -> dict:
        """The greedy action, and remembers the state."""
        space = self.agent.observation_space
        observations = np.asarray(observation, space.dtype)[None]
        state = self.states.pop(session, None)
        actions, self.states[session] = self.agent.step(observations, state, np.array([is_first or state is None]))
        if len(self.states) > SESSIONS:
            self.states.pop(next(iter(self.states)))
        return {"action": np.asarray(actions)[0].tolist()}


app = Policy.bind(sys.argv[1] if len(sys.argv) > 1 else "maze_stpn")


def main() -> None:
    """Plays an episode of two sessions at once through the deployment, and prints their returns."""
    policy = serve.run(app)
    agent = rllib_stpn.load("maze_stpn")
    env = agent.make_env(num_envs=2)
    observations, _ = env.reset(seed=0)
    returns, first = np.zeros(2), True
    for _ in range(200):
        asked = [policy.act.remote(str(i), observation.tolist(), first) for i, observation in enumerate(observations)]
        observations, rewards, *_ = env.step(np.array([answer.result()["action"] for answer in asked]))
        returns, first = returns + rewards, False
    print(f"returns {returns[0]:g} and {returns[1]:g}")
    serve.shutdown()


if __name__ == "__main__":
    main()
