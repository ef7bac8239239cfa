"""Names of all models, their parameters, what they send and where it arrives: what a configuration is checked by.

Kept apart from the models, whose import takes seconds; a test holds it against them.
"""

from __future__ import annotations

from typing import NamedTuple


class ModelNames(NamedTuple):
    """Names that a configuration may use of one model: parameters, observables, ports."""

    parameters: str
    observables: str
    ports: str


# Names are written in one string each, with blanks between them.
MODELS: dict[str, ModelNames] = {
    "HopfStep": ModelNames(
        "a w beta",
        "source bold eeg x y",
        "x_input y_input",
    ),
    "StuartLandauStep": ModelNames(
        "a w",
        "source bold eeg x y",
        "x_input y_input",
    ),
    "LinearStep": ModelNames(
        "gamma",
        "source bold eeg x",
        "current",
    ),
    "ThresholdLinearStep": ModelNames(
        "tau_e tau_i beta_e beta_i w_ee w_ei w_ie w_ii background_e background_i eta hierarchy",
        "source bold eeg r_e r_i",
        "current_e current_i",
    ),
    "VanDerPolStep": ModelNames(
        "mu",
        "source bold eeg x y",
        "x_input y_input",
    ),
    "FitzHughNagumoStep": ModelNames(
        "alpha beta gamma delta epsilon tau I",
        "source bold eeg V w",
        "current w_input",
    ),
    "Generic2dOscillatorStep": ModelNames(
        "tau I a b c d e f g alpha beta gamma",
        "source bold eeg V W",
        "current",
    ),
    "KuramotoStep": ModelNames(
        "omega",
        "source bold eeg theta sin cos",
        "phase_drive",
    ),
    "WilsonCowanStep": ModelNames(
        "tau_e tau_i a_e a_i theta_e theta_i w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q",
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanNoSaturationStep": ModelNames(
        "tau_e tau_i a_e a_i theta_e theta_i w_ee w_ei w_ie w_ii k_e k_i P Q",
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanSymmetricStep": ModelNames(
        "w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q tau a theta",
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanSimplifiedStep": ModelNames(
        "tau_e tau_i a_e a_i theta_e theta_i r_e r_i k_e k_i P Q w_exc w_inh",
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanLinearStep": ModelNames(
        "tau_e tau_i w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q",
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanDivisiveStep": ModelNames(
        ("tau_e tau_i a_e a_i theta_e theta_i w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q sigma_e sigma_i"),
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanDivisiveInputStep": ModelNames(
        ("tau_e tau_i a_e a_i theta_e theta_i w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q sigma_e sigma_i"),
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanDelayedStep": ModelNames(
        (
            "tau_e tau_i a_e a_i theta_e theta_i w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q delay_ee "
            "delay_ei delay_ie delay_ii"
        ),
        "source bold eeg E I lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanAdaptiveStep": ModelNames(
        ("tau_e tau_i a_e a_i theta_e theta_i w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q tau_ae tau_ai b_e b_i"),
        "source bold eeg E I A_e A_i lfp",
        "drive_e drive_i",
    ),
    "WilsonCowanThreePopulationStep": ModelNames(
        (
            "tau_e tau_i a_e a_i theta_e theta_i w_ee w_ei w_ie w_ii r_e r_i k_e k_i P Q tau_m a_m "
            "theta_m w_me w_mi w_mm w_em w_im r_m k_m R"
        ),
        "source bold eeg E I M lfp",
        "drive_e drive_i drive_m",
    ),
    "JansenRitStep": ModelNames(
        "A B a b C c1 c2 c3 c4 e0 v0 r p",
        "source bold eeg y0 y1 y2 y3 y4 y5 firing_rate potential",
        "rate membrane rate_inhibitory",
    ),
    "MontbrioPazoRoxinStep": ModelNames(
        "tau Delta eta J I",
        "source bold eeg r v rate_tau",
        "current",
    ),
    "GastSchmidtKnoscheSDStep": ModelNames(
        "tau Delta eta J I alpha tau_A",
        "source bold eeg r v A B rate_tau",
        "current",
    ),
    "GastSchmidtKnoscheSFStep": ModelNames(
        "tau Delta eta J I alpha tau_A",
        "source bold eeg r v A B rate_tau",
        "current",
    ),
    "CoombesByrne2DStep": ModelNames(
        "Delta eta k v_syn tau I",
        "source bold eeg r v rate",
        "current",
    ),
    "CoombesByrneStep": ModelNames(
        "Delta eta k v_syn tau I alpha",
        "source bold eeg r v g q rate",
        "current synapse",
    ),
    "DumontGutkinStep": ModelNames(
        "I_e Delta_e eta_e tau_e I_i Delta_i eta_i tau_i tau_s J_ee J_ei J_ie J_ii Gamma",
        "source bold eeg r_e v_e s_ee s_ei r_i v_i s_ie s_ii",
        "rate",
    ),
    "WongWangStep": ModelNames(
        "a b d gamma tau_S J_N11 J_N22 J_N12 J_N21 J_A_ext mu_0 I_0 coherence",
        "source bold eeg S1 S2 r1 r2 S_total",
        "coherence current_1 current_2",
    ),
    "ReducedWongWangStep": ModelNames(
        "a b d gamma tau_S J_N w I_o",
        "source bold eeg S rate",
        "excitatory_gating current",
    ),
    "WongWangExcInhStep": ModelNames(
        ("a_e b_e d_e tau_e gamma_e a_i b_i d_i tau_i gamma_i J_N w_p J_i J_ii I_o W_e W_i lamda I_ext"),
        "source bold eeg S_e S_i r_e r_i",
        "excitatory_gating current_e current_i",
    ),
    "EpileptorStep": ModelNames(
        "a b c d r s x0 I_ext slope I_ext2 tau aa bb Kvf Kf Ks tt modification",
        "source bold eeg x1 y1 z x2 y2 g lfp",
        "slow_x1 fast_x1 fast_x2",
    ),
    "Epileptor2DStep": ModelNames(
        "a b c d r s x0 I_ext slope Kvf Ks tt modification cubic",
        "source bold eeg x1 z",
        "slow_x1 fast_x1",
    ),
    "EpileptorCodim3Step": ModelNames(
        "mu1_start mu2_start nu_start mu1_stop mu2_stop nu_stop b R c dstar Ks modification",
        "source bold eeg x y z",
        "slow_x",
    ),
    "LarterBreakspearStep": ModelNames(
        (
            "gCa gK gL gNa TCa TK TNa d_Ca d_K d_Na VCa VK VL VNa phi tau_K b aee aei aie ane ani C "
            "I_ext rNMDA VT d_V ZT d_Z QV_max QZ_max t_scale"
        ),
        "source bold eeg V W Z excitatory_rate",
        "excitatory_rate",
    ),
    "BilinearDCMStep": ModelNames(
        "A B C",
        "source bold eeg x",
        "input",
    ),
    "HORNStep": ModelNames(
        "alpha omega gamma v h",
        "source bold eeg x y",
        "input",
    ),
    "LorenzStep": ModelNames(
        "sigma rho beta",
        "source bold eeg x y z",
        "current",
    ),
}
COUPLINGS = (
    "additive",
    "scaling",
    "diffusive",
    "laplacian",
    "laplacian_rw",
    "laplacian_sym",
    "sigmoidal",
    "sigmoidal_range",
    "tanh",
    "tanh_presummation",
    "sigmoidal_jansen_rit",
    "presigmoidal",
    "kuramoto",
)
