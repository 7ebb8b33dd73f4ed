import numpy as np
import pytest
import torch

from model.losses import ENOUGH, PENALTY, Critic, critic_gap, cross_entropy, distillation, wasserstein

FAKE = torch.tensor([True, False, True, False])


def test_focal_loss_by_hand():
    p = np.array([0.8, 0.3, 0.4, 0.9])
    truth = np.where(FAKE, p, 1 - p)
    expected = -((1 - truth) ** 2) * np.log(truth)
    found = cross_entropy(torch.logit(torch.tensor(p)), FAKE, "focal", 2.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(torch.logit(torch.tensor(p)), FAKE, "bce").numpy(), -np.log(truth), rtol=1e-6)


def test_focal_loss_without_gamma_is_cross_entropy():
    z = torch.randn(4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cross_entropy(z, FAKE, "focal", 0.0), cross_entropy(z, FAKE, "bce"))


@pytest.mark.parametrize("size", [60.0, -60.0])
def test_losses_and_their_slopes_stay_finite_for_confident_logits(size):
    z = torch.full((4,), size, requires_grad=True)
    (cross_entropy(z, FAKE).sum() + wasserstein(z, FAKE) + distillation(z, -z.detach()).sum()).backward()
    assert torch.isfinite(z.grad).all()


def test_wasserstein_gap_equals_scipys_distance_when_fakes_lie_above():
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(0)
    fake = torch.arange(400) % 2 == 1
    p = np.where(fake, rng.uniform(0.45, 0.7, 400), rng.uniform(0.1, 0.4, 400))
    distance = wasserstein_distance(p[fake], p[~fake.numpy()])
    assert wasserstein(torch.logit(torch.tensor(p)), fake).item() == pytest.approx(ENOUGH - distance, abs=0.01)


def test_wasserstein_pushes_apart_the_right_way_even_from_the_wrong_side_and_stops():
    z = torch.tensor([-2.0, 2.0, -1.0, 1.0], requires_grad=True)  # fakes below reals
    wasserstein(z, FAKE).backward()
    assert (z.grad[FAKE] < 0).all() and (z.grad[~FAKE] > 0).all()
    assert wasserstein(torch.tensor([6.0, -6.0, 6.0, -6.0]), FAKE) == 0.0
    assert wasserstein(torch.tensor([-60.0, 60.0, -60.0, 60.0]), FAKE).item() == pytest.approx(1 + ENOUGH)
    assert wasserstein(torch.zeros(2), torch.tensor([True, True])) == 0.0


def test_distillation_is_nothing_for_the_teachers_own_words_and_grows_with_disagreement():
    z = torch.tensor([-3.0, 0.0, 2.0])
    torch.testing.assert_close(distillation(z, z), torch.zeros(3))
    near, far = distillation(z + 0.5, z), distillation(z + 2, z)
    assert (near > 0).all() and (far > near).all()


def test_a_critic_measures_how_far_apart_two_clouds_are():
    """Two clouds that differ by a shift of length d lie d apart; the best slope under a soft penalty is 1 + d / (2 PENALTY), and scales what is measured."""
    torch.manual_seed(0)
    reals = torch.randn(200, 4)
    points, fake = torch.cat([reals, reals + torch.tensor([1.8, 0.0, 2.4, 0.0])]), torch.arange(400) >= 200
    critic = Critic(4)
    optimiser = torch.optim.Adam(critic.parameters(), lr=0.01)
    for _ in range(400):
        optimiser.zero_grad()
        critic_gap(critic(points), fake).backward()
        optimiser.step()
    said = critic(points).detach()
    assert (said[fake, 0].mean() - said[~fake, 0].mean()).item() == pytest.approx(3.0 * (1 + 3.0 / (2 * PENALTY)), rel=0.02)
    assert said[:, 1].mean() == pytest.approx((3.0 / (2 * PENALTY)) ** 2, rel=0.2)


def test_a_critics_penalty_is_the_square_by_which_its_slope_misses_one():
    critic = Critic(3)
    critic.value = torch.nn.Linear(3, 1)
    with torch.no_grad():
        critic.value.weight.copy_(torch.tensor([[0.0, 3.0, 4.0]]))
    said = critic(torch.randn(5, 3))
    torch.testing.assert_close(said[:, 1], torch.full((5,), 16.0))
    fake = torch.tensor([True, True, False, False, False])
    expected = said[~fake, 0].mean() - said[fake, 0].mean() + PENALTY * 16.0
    torch.testing.assert_close(critic_gap(said, fake), expected)
    assert critic_gap(said, torch.ones(5, dtype=torch.bool)) == 0


def test_a_critic_pushes_the_embedding_apart():
    embedding = torch.zeros(4, 3, requires_grad=True)
    critic_gap(Critic(3)(embedding), FAKE).backward()
    torch.testing.assert_close(embedding.grad[FAKE].sum(0), -embedding.grad[~FAKE].sum(0))
    assert embedding.grad.abs().sum() > 0
