"""Section 2, recurrent networks that are trained on a running average.

The networks compute ``h_t = sigma(W_h h_{t-1} + W_x x_t + b)`` and ``y_t = W_f h_t + b_f``.
"""

from leadline.worksheet._criterion import Above, AllOf, Below, Criterion, Holds, Within
from leadline.worksheet._statement import Statement

STATEMENTS = (
    Statement(
        id="rnn.a",
        number="2a",
        title="The largest eigenvalue decides",
        claim="Without a nonlinearity the largest eigenvalue magnitude of W_h decides: well above "
        "1 gradients explode, well below 1 they vanish, near 1 they are stable.",
        course="true",
        agrees="supported",
        measurement="First, in float64, the gradients dL/dh_t of a linear network equal the closed "
        "form (2/numel)(ŷ - y) W_f W_h^(T-t). Then each seed draws matrices whose spectral radius "
        "ρ and non-normality are varied separately, and the measured slope of ln‖dL/dh_t‖ over the "
        "distance T - t is regressed on ln ρ and ln σ_max, the logarithm of the largest singular "
        "value.",
        criterion=Criterion(
            AllOf(
                Holds("closed_form"),
                Within("slope_on_ln_rho", 0.95, 1.05),
                Within("slope_on_ln_sigma_max", -0.05, 0.05),
            ),
            met="supported",
        ),
        why="The gradient at distance n is a row vector times W_h^n, and powers of a matrix grow "
        "like ρ^n in the long run, whatever its singular values. In the short run they need not: a "
        "non-normal matrix of small ρ can first amplify.",
        condition="Asymptotic: over short distances a non-normal matrix follows its largest "
        "singular value.",
        measure="leadline.worksheet.measurements.recurrent.eigenvalues:largest_eigenvalue",
    ),
    Statement(
        id="rnn.b",
        number="2b",
        title="tanh against ReLU",
        claim="tanh keeps hidden states in (-1, 1); states and gradients of ReLU networks explode "
        "often; tanh vanishes more and explodes less, yet can explode where the largest eigenvalue "
        "is above 1 and states stay near zero.",
        course="true",
        agrees="supported",
        measurement="At ρ > 1 and T = 50, over scales and seeds: the fractions of networks whose "
        "gradient explodes or vanishes without a nonlinearity, with ReLU and with tanh, and their "
        "paired differences.",
        criterion=Criterion(
            AllOf(
                Above("relu_minus_tanh_exploding"),
                Above("tanh_minus_relu_vanishing"),
                Holds("tanh_states_bounded"),
                Holds("tanh_exception"),
            ),
            met="supported",
        ),
        why="The slope of tanh is below 1 wherever the state is not zero, so saturation shrinks "
        "the gradient at each step. ReLU passes it whole or not at all.",
        condition="That tanh vanishes more holds at a spectral radius of 2 and more, as measured "
        "here (16 units, 50 timesteps, no training): there tanh saturates, and hardly any ReLU "
        "network vanishes. At 1.4 and less ReLU vanishes more, since it passes the gradient of "
        "only about half of its units. That tanh explodes less holds at every scale at which "
        "anything explodes.",
        measure="leadline.worksheet.measurements.recurrent.explosions:nonlinearities",
    ),
    Statement(
        id="rnn.c",
        number="2c",
        title="A loss at every timestep",
        claim="With a loss at every timestep the logged gradients look large, but the loss at k "
        "still hardly reaches t far below k, so learning of long-range dependencies is not helped.",
        course="true",
        agrees="supported",
        measurement="The influence matrix ‖dL_k/dh_t‖ splits the gradient at early t into what "
        "comes from near and from far. Then networks learn a target that needs the first input, "
        "with auxiliary losses at the other steps and without.",
        criterion=Criterion(
            AllOf(
                Below("far_share_of_early_gradient", 0.1),
                Within("final_r2_with_minus_without", -0.05, 0.05),
                Above("ln_ratio_of_early_gradients", 2.302585092994046),
            ),
            met="supported",
        ),
        why="A sum is as large as its largest term. The nearby terms are large and say nothing "
        "about the distant past.",
        condition="Equivalent where no network learns the dependency, or all do; in between, local "
        "losses can hinder. Where auxiliary targets themselves need the distant past, they do "
        "help.",
        measure="leadline.worksheet.measurements.recurrent.long_range:loss_at_every_timestep",
    ),
    Statement(
        id="rnn.d",
        number="eq. 1",
        title="One weight, many paths",
        claim="The gradient of a shared weight is a sum over timesteps of the paths through each "
        "h_t; for long sequences the far terms are often tiny or huge.",
        course="true",
        agrees="supported",
        measurement="The sum over timesteps of dL/dh_t dh_t/dW is compared in float64 with "
        "automatic differentiation, for every parameter.",
        criterion=Criterion(
            AllOf(Holds("sum_equals_autograd"), Holds("terms_span_decades")), met="supported"
        ),
        why="The same W acts at every step, so the chain rule adds one term for each. Each term "
        "carries a product of Jacobians as long as its distance from the loss.",
        condition="An identity; it cannot fail but by an error of arithmetic.",
        measure="leadline.worksheet.measurements.recurrent.paths:shared_weight",
    ),
    Statement(
        id="rnn.e",
        number="+",
        title="The running average is learned",
        claim="Recurrent networks learn the running average, at all timesteps and at the last.",
        course="(ours)",
        agrees="supported",
        measurement="T = 10 and 32 hidden units, RNN and LSTM of one and two layers: validation "
        "error over that of predicting zero, for both tasks.",
        criterion=Criterion(
            AllOf(Below("error_share_all_steps", 0.02), Below("error_share_last_step", 0.02)),
            met="supported",
        ),
        why="A running average needs one linear memory and a step count; ten steps are short "
        "enough for the gradient to arrive.",
        condition="Longer sequences need gates or a careful initialisation.",
        measure="leadline.worksheet.measurements.recurrent.learning:running_average_is_learned",
    ),
)
