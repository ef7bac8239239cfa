"""Lead fields against closed forms and series, MNE's own projection, and numpy."""

from __future__ import annotations

import json

import brainloom.models  # noqa: F401

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import mne
import numpy as np
import pytest
import xarray as xr
from scipy.special import eval_legendre

from brainloom.core.errors import DataError
from brainloom.io.lead_field import LeadField
from brainloom.io.lead_fields import (
    contact_lead_field,
    lead_field_from_forward,
    lead_field_from_matrix,
    sphere_lead_field,
)
from brainloom.io.sphere import CENTRE, CONDUCTIVITIES, RADIUS, SHELLS, mni_to_head

mne.set_log_level("ERROR")
NAMES = ["Fz", "Cz", "Pz", "Oz", "C3", "C4", "T7", "T8", "F3", "P4"]
MIDDLE = np.array(CENTRE)


def inside(n, largest, seed=0):
    """Points in the head, mm, at most `largest` of the radius from the centre."""
    rng = np.random.default_rng(seed)
    towards = rng.normal(size=(n, 3))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    return MIDDLE + RADIUS * largest * towards * rng.uniform(0.3, 1, (n, 1)), towards


def hemisphere(side):
    """A small surface source space: a sphere of 25 mm with 42 vertices."""
    ico = mne.surface._get_ico_surface(1)
    normals = ico["rr"] / np.linalg.norm(ico["rr"], axis=1)[:, None]
    centre = np.array([-0.032 if side == 0 else 0.032, 0.011, 0.045])
    n = len(normals)
    return {
        "id": 101 + side,
        "type": "surf",
        "np": n,
        "ntri": len(ico["tris"]),
        "coord_frame": np.int32(5),
        "rr": normals * 0.025 + centre,
        "nn": normals,
        "tris": ico["tris"],
        "nuse": n - 2,
        "inuse": np.r_[0, 0, np.ones(n - 2, int)],
        "vertno": np.arange(2, n),
        "subject_his_id": "toy",
        **dict.fromkeys(("use_tris", "nearest", "nearest_dist", "pinfo", "patch_inds", "dist", "dist_limit")),
        "nuse_tri": 0,
    }


def forward_of(src, names=NAMES):
    info = mne.create_info(names, 1000.0, "eeg")
    info.set_montage(mne.channels.make_standard_montage("colin27_1020"))
    return mne.make_forward_solution(
        info,
        trans=mne.transforms.Transform("head", "mri", np.eye(4)),
        src=src,
        bem=mne.make_sphere_model(MIDDLE / 1e3, RADIUS / 1e3),
        meg=False,
        eeg=True,
        mindist=0.0,
    )


@pytest.fixture(scope="module")
def surface():
    return forward_of(mne.SourceSpaces([hemisphere(0), hemisphere(1)]))


@pytest.fixture(scope="module")
def discrete():
    where, towards = inside(12, 0.7)
    return forward_of(mne.setup_volume_source_space(pos={"rr": where / 1e3, "nn": towards}, mindist=0.0))


def free_gain(forward):
    return forward["sol"]["data"].reshape(len(forward["info"]["ch_names"]), -1, 3)


# --- the sphere ------------------------------------------------------------------------------------------


def homogeneous(electrodes, sources, sigma):
    """
    Potentials (electrode, source, axis) of a homogeneous sphere, closed form, mm and S/m, V/(A m).

    The sum over n of (2 + 1/n) t^n P_n(c) is 2/d - 2 + log(2 / (1 - t c + d)), d = sqrt(1 - 2 t c + t^2).
    """

    def green(source, electrode):
        size = jnp.linalg.norm(electrode)
        t = jnp.linalg.norm(source) / size
        tc = source @ electrode / size**2
        d = jnp.sqrt(1 - 2 * tc + t**2)
        return (2 / d - 2 + jnp.log(2 / (1 - tc + d))) / (4 * jnp.pi * sigma * size)

    both = jax.jit(jax.vmap(jax.vmap(jax.grad(green), (0, None)), (None, 0)))
    return np.array(both(sources / 1e3, electrodes / 1e3))


def layered(electrodes, sources, radii, sigmas, n_terms=150):
    """Potentials of a layered sphere for radial dipoles, by the Legendre series; the source is in the first layer."""
    outer = radii[-1]
    factors = []
    for n in range(1, n_terms + 1):
        # potentials A x^n + B x^-(n+1) in each layer, x = r / R, with B = 1 in the first one
        n_layers = len(radii)
        table, right = np.zeros((2 * n_layers - 1, 2 * n_layers - 1)), np.zeros(2 * n_layers - 1)

        def put(row, layer, x, order, sign, n=n, table=table, right=right):
            rise = x**n if order == 0 else sigmas[layer] * n * x ** (n - 1)
            fall = x ** -(n + 1) if order == 0 else -sigmas[layer] * (n + 1) * x ** -(n + 2)
            table[row, 2 * layer] += sign * rise
            if layer == 0:
                right[row] -= sign * fall
            else:
                table[row, 2 * layer - 1] += sign * fall

        for at, radius in enumerate(radii[:-1]):
            for order in (0, 1):
                put(2 * at + order, at, radius / outer, order, 1.0)
                put(2 * at + order, at + 1, radius / outer, order, -1.0)
        put(2 * n_layers - 2, n_layers - 1, 1.0, 1, 1.0)
        found = np.linalg.solve(table, right)
        factors.append(found[2 * n_layers - 2] + (found[2 * n_layers - 3] if n_layers > 1 else 1.0))
    t = np.linalg.norm(sources, axis=1) / outer
    cosine = (electrodes @ sources.T) / outer / np.linalg.norm(sources, axis=1)
    total = np.zeros_like(cosine)
    for n, factor in enumerate(factors, 1):
        total += factor * n * t ** (n - 1) * eval_legendre(n, cosine)
    return total / (4 * np.pi * sigmas[0] * (outer / 1e3) ** 2)


def test_a_homogeneous_sphere_agrees_with_its_closed_form():
    where, _ = inside(8, 0.8)
    field = sphere_lead_field(
        where,
        "free",
        montage=NAMES,
        space="head",
        reference=None,
        shells=(0.95, 1.0),
        conductivities=(0.33, 0.33),
    )
    exact = homogeneous(field.sensor_positions - MIDDLE, where - MIDDLE, 0.33)
    exact -= exact.mean(0)
    ours = field.gain - field.gain.mean(0)
    # nothing is approximated here, but MNE keeps some numbers in single precision
    np.testing.assert_allclose(ours, exact, atol=1e-7 * np.abs(exact).max())


def test_four_shells_agree_with_the_legendre_series():
    where, _ = inside(8, 0.75, seed=1)
    field = sphere_lead_field(where, montage=NAMES, space="head")
    radii = np.array(SHELLS) * RADIUS
    exact = layered(field.sensor_positions - MIDDLE, where - MIDDLE, radii, CONDUCTIVITIES)
    exact -= exact.mean(0)
    # the approximation of Berg and Scherg is within 0.3 % of the largest value of each source at this eccentricity
    assert (np.abs(field.gain - exact).max(0) < 3e-3 * np.abs(exact).max(0)).all()


def test_series_and_closed_form_agree():
    where, towards = inside(3, 0.7, seed=2)
    radial = where - MIDDLE
    radial /= np.linalg.norm(radial, axis=1)[:, None]
    electrodes = RADIUS * towards
    series = layered(electrodes, where - MIDDLE, np.array([0.5, 0.8, 1.0]) * RADIUS, (0.4, 0.4, 0.4))
    closed = np.einsum("esk,sk->es", homogeneous(electrodes, where - MIDDLE, 0.4), radial)
    np.testing.assert_allclose(series, closed, rtol=1e-9)  # both exact; 150 terms, eccentricity below 0.7


def test_electrodes_are_on_the_sphere_and_sources_where_mni_says():
    where = np.array([[-40.0, -20.0, 50.0], [40.0, -20.0, 50.0]])
    field = sphere_lead_field(where, montage=["C3", "Cz", "C4"], regions=["left", "right"])
    assert np.allclose(np.linalg.norm(field.sensor_positions - MIDDLE, axis=1), RADIUS)
    np.testing.assert_allclose(field.positions, mni_to_head(where))
    # radial, outwards, by default: positive above the source; left is left
    assert field.gain[0, 0] > field.gain[1, 0] > field.gain[2, 0]
    assert field.gain[2, 1] > field.gain[1, 1] > field.gain[0, 1]
    outwards = (field.positions - MIDDLE) / np.linalg.norm(field.positions - MIDDLE, axis=1)[:, None]
    np.testing.assert_allclose(field.orientation, outwards)
    assert field.reference == "average" and np.abs(field.gain.sum(0)).max() < 1e-10
    # 10 nA m give microvolts
    assert 1e-7 < 1e-8 * np.abs(field.gain).max() < 1e-5


def test_given_directions_turn_with_the_head():
    where, towards = np.array([[-40.0, -20.0, 50.0]]), np.array([[0.0, 0.0, 2.0]])
    free = sphere_lead_field(where, "free", montage=NAMES)
    turned = mni_to_head(towards / 2, move=False)
    np.testing.assert_allclose(
        sphere_lead_field(where, towards, montage=NAMES).gain[:, 0], free.gain[:, 0] @ turned[0]
    )


def test_sources_outside_are_pulled_in_or_named():
    limit = 0.98 * SHELLS[0] * RADIUS
    where = MIDDLE + np.array([[0.0, 0.0, 50.0], [0.0, 0.0, limit + 4.0]])
    with pytest.warns(UserWarning, match=r"1 of 2 regions .* up to 4.0 mm: top"):
        field = sphere_lead_field(where, montage=NAMES, space="head", regions=["deep", "top"])
    np.testing.assert_allclose(np.linalg.norm(field.positions - MIDDLE, axis=1), [50.0, limit])
    with pytest.raises(DataError, match=r"top \(4 mm\).*max_pull \(3 mm\)"):
        sphere_lead_field(where, montage=NAMES, space="head", regions=["deep", "top"], max_pull=3.0)


@pytest.mark.filterwarnings("ignore:1 of 6 regions")
def test_the_whole_cortex_is_inside_the_default_sphere():
    # poles and the vertex of the MNI brain
    poles = [[-15, -100, -8], [-20, 62, 8], [-36, 15, -34], [-8, -25, 70], [-50, -28, -23], [-26, -54, -56]]
    field = sphere_lead_field(poles, montage=NAMES)
    away = np.linalg.norm(mni_to_head(np.array(poles, float)) - field.positions, axis=1)
    assert away.max() < 2.0


def test_second_names_of_electrodes_are_left_out_unless_asked_for():
    where = [[-40, -20, 50]]
    every = sphere_lead_field(where).sensors
    assert "T7" in every and "T3" not in every and len(every) > 80
    assert sphere_lead_field(where, sensors=["T3", "Cz"]).sensors == ("T3", "Cz")


@pytest.mark.parametrize("montage", ["neuromag", "ctf275"])
def test_radial_dipoles_are_silent_in_meg(montage):
    where, _ = inside(5, 0.75, seed=3)
    free = sphere_lead_field(where, "free", kind="meg", montage=montage, space="head", sensors="mag")
    radial = where - MIDDLE
    along = sphere_lead_field(where, kind="meg", montage=montage, space="head", sensors="mag")
    silent = np.linalg.norm(free.fixed(radial).gain, axis=0)
    assert (silent < 1e-6 * np.linalg.norm(along.gain, axis=0)).all()
    with pytest.raises(DataError, match="all orientations are radial"):
        sphere_lead_field(where, radial, kind="meg", montage=montage, space="head", sensors="mag")


def sarvas(place, q, r):
    """Field at r of a dipole in a sphere around 0 (Sarvas 1987, equation 25), T/(A m), lengths in m."""
    away = r - place
    a, size = np.linalg.norm(away), np.linalg.norm(r)
    f = a * (size * a + size**2 - place @ r)
    slope = (a**2 / size + away @ r / a + 2 * a + 2 * size) * r - (a + 2 * size + away @ r / a) * place
    turned = np.cross(q, place)
    return 1e-7 * (f * turned - (turned @ r) * slope) / f**2


def test_magnetometers_agree_with_the_field_of_a_dipole_in_a_sphere():
    where, _ = inside(4, 0.75, seed=4)
    field = sphere_lead_field(where, kind="meg", space="head", sensors="mag")
    assert set(field.units) == {"T/(A*m)"}
    info = mne.channels.montage.read_meg_canonical_info("neuromag")
    # the shift to the head turns nothing
    axes = {c["ch_name"]: c["loc"][3:12].reshape(3, 3) for c in info["chs"]}
    exact = np.zeros_like(field.gain)
    for s, name in enumerate(field.sensors):
        for corner in [
            (1, 1),
            (1, -1),
            (-1, 1),
            (-1, -1),
        ]:  # Gauss points of a square coil of 21 mm, 0.3 mm above its place
            r = (field.sensor_positions[s] - MIDDLE) / 1e3
            r = r + 0.0105 / np.sqrt(3) * np.array(corner) @ axes[name][:2] + 3e-4 * axes[name][2]
            for at, (place, q) in enumerate(zip((where - MIDDLE) / 1e3, field.orientation, strict=True)):
                exact[s, at] += 0.25 * sarvas(place, q, r) @ axes[name][2]
    # quadrature of the coil: 0.5 % of the largest value of each source
    assert (np.abs(field.gain - exact).max(0) < 5e-3 * np.abs(exact).max(0)).all()


def test_gradiometers_have_their_own_unit():
    where, _ = inside(3, 0.7, seed=5)
    both = sphere_lead_field(where, kind="meg", space="head")
    assert both.gain.shape == (306, 3) and both.reference is None
    grad = both.pick("grad")
    assert len(grad.sensors) == 204 and set(grad.units) == {"T/(A*m^2)"}
    # 10 nA m give 10 to 100 fT/cm
    assert 1e-12 < 1e-8 * np.abs(grad.gain).max() < 1e-11


def test_tangential_is_towards_the_top():
    where = MIDDLE + np.array([[60.0, 0.0, 0.0], [0.0, 0.0, 60.0]])
    field = sphere_lead_field(where, kind="meg", space="head", sensors="mag")
    np.testing.assert_allclose(field.orientation, [[0, 0, 1], [0, 1, 0]], atol=1e-12)


def test_info_of_a_recording():
    info = mne.create_info(["EOG", "Pz", "Cz", "Fz"], 250.0, ["eog", "eeg", "eeg", "eeg"])
    info.set_montage(mne.channels.make_standard_montage("colin27_1020"), on_missing="ignore")
    info["bads"] = ["Cz"]
    where = [[-40, -20, 50], [10, 10, 40]]
    field = sphere_lead_field(where, montage=info)
    assert field.sensors == ("Pz", "Fz")
    np.testing.assert_allclose(field.gain, sphere_lead_field(where, montage=["Pz", "Fz"]).gain, rtol=1e-6)
    assert sphere_lead_field(where, montage=info, sensors=["Cz", "Pz"]).sensors == ("Cz", "Pz")
    meg = mne.channels.montage.read_meg_canonical_info("ctf275")
    with pytest.raises(DataError, match="inside it; correct dev_head_t"):
        sphere_lead_field(where, montage=meg, kind="meg")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "fmri"}, "must be 'eeg' or 'meg'"),
        ({"space": "talairach"}, "must be 'mni' or 'head'"),
        ({"montage": "nowhere"}, "one that MNE ships"),
        ({"montage": ["Cz", "Qz"]}, "no electrode Qz"),
        ({"orientations": "up"}, "'radial', 'tangential', 'free'"),
        ({"orientations": [[0, 0, 0]]}, "orientation of region here is"),
        ({"regions": ["a", "b"]}, "2 names are given for 1 regions"),
        ({"montage": mne.create_info(["Cz"], 100.0, "eeg")}, "electrode Cz has no position"),
        ({"kind": "meg", "sensors": ["Cz"]}, "no mag channel Cz"),
        ({"kind": "meg", "montage": "colin27_1020"}, "for MEG it must be neuromag"),
    ],
)
def test_what_a_sphere_cannot_take_is_said(arguments, says):
    with pytest.raises(DataError, match=says):
        sphere_lead_field([[0, 0, 60]], **({"regions": ["here"]} | arguments))


# --- forward models --------------------------------------------------------------------------------------


def test_a_patch_equals_the_projection_of_mne(surface):
    fixed = mne.convert_forward_solution(surface, surf_ori=True, force_fixed=True)
    parcels = {"front": [0, 3, 5, 41], "back": [42, 60, 79]}
    field = lead_field_from_forward(surface, parcels)
    assert field.regions == ("front", "back") and field.n_sources.tolist() == [4, 3]
    moments = np.array([[3e-9, -1e-9], [2e-9, 5e-9]])  # A m, (time, region)
    data = np.zeros((80, 2))
    for at, which in enumerate(parcels.values()):
        data[which] += moments[:, at] / len(which)
    stc = mne.SourceEstimate(data, [space["vertno"] for space in surface["src"]], 0.0, 1e-3, "toy")
    theirs = mne.apply_forward(fixed, stc, surface["info"]).data.T
    # MNE fixes orientations in single precision
    np.testing.assert_allclose(moments @ field.gain.T, theirs, atol=1e-6 * np.abs(theirs).max())
    np.testing.assert_allclose(lead_field_from_forward(fixed, parcels).gain, field.gain, rtol=1e-5)


def test_free_orientation_equals_the_projection_of_mne(discrete):
    field = lead_field_from_forward(discrete, [[at] for at in range(12)])
    assert field.free and field.orientation is None
    moments = np.random.default_rng(0).normal(0, 1e-8, (12, 3, 1))
    stc = mne.VolVectorSourceEstimate(moments, [np.arange(12)], 0.0, 1e-3)
    theirs = mne.apply_forward(discrete, stc, discrete["info"]).data[:, 0]
    np.testing.assert_allclose(np.einsum("srk,rk->s", field.gain, moments[..., 0]), theirs, rtol=1e-9)
    along = lead_field_from_forward(discrete, [[at] for at in range(12)], orientation="fixed")
    normals = discrete["src"][0]["nn"]
    np.testing.assert_allclose(along.gain, field.fixed(normals).gain, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(along.orientation, normals, rtol=1e-6)


def test_ways_to_aggregate_agree_with_numpy(surface):
    which = np.array([1, 4, 9, 16, 25, 36])
    normals = np.concatenate([space["nn"][space["vertno"]] for space in surface["src"]])[which]
    gain = np.einsum("csk,sk->cs", free_gain(surface)[:, which], normals)
    close = {"rtol": 1e-6, "atol": 1e-6 * np.abs(gain).max()}
    one = [which]
    np.testing.assert_allclose(lead_field_from_forward(surface, one).gain[:, 0], gain.mean(1), **close)
    free = lead_field_from_forward(surface, one, orientation="free")
    np.testing.assert_allclose(free.gain[:, 0], free_gain(surface)[:, which].mean(1), **close)

    label = mne.Label(surface["src"][0]["vertno"][which], hemi="lh", subject="toy")
    flip = mne.label_sign_flip(label, surface["src"])
    assert len(set(flip)) == 2
    flipped = lead_field_from_forward(surface, one, how="sign-flip mean").gain[:, 0]
    expected = (gain * flip).mean(1)
    np.testing.assert_allclose(flipped, expected * np.sign(expected @ flipped), **close)

    pattern = lead_field_from_forward(surface, one, how="svd").gain[:, 0]
    left, values, _ = np.linalg.svd(gain, full_matrices=False)
    np.testing.assert_allclose(np.abs(pattern), np.abs(left[:, 0]) * values[0] / np.sqrt(6), **close)
    assert pattern @ flipped > 0
    # sources that are all alike: each way gives the same
    same = [np.array([7, 7, 7])]
    alike = [
        lead_field_from_forward(surface, same, how=how).gain for how in ("mean", "sign-flip mean", "svd")
    ]
    np.testing.assert_allclose(alike[1], alike[0], **close)
    np.testing.assert_allclose(alike[2], alike[0], **close)
    with pytest.raises(DataError, match="needs fixed orientation"):
        lead_field_from_forward(surface, one, how="svd", orientation="free")


def test_labels_and_centres(surface):
    lh, rh = surface["src"]
    labels = [
        mne.Label([0, 2, 3, 4], hemi="lh", name="a-lh", subject="toy"),
        mne.Label([10, 11], hemi="rh", name="b-rh", subject="toy"),
    ]
    by_label = lead_field_from_forward(surface, labels)
    by_number = lead_field_from_forward(surface, [[0, 1, 2], [48, 49]])  # vertex 0 is not in use
    np.testing.assert_array_equal(by_label.gain, by_number.gain)
    assert by_label.regions == ("a-lh", "b-rh")
    centres = 1e3 * np.stack([lh["rr"][20], rh["rr"][30]]) + 1.0
    near = lead_field_from_forward(surface, centres, regions=["x", "y"])
    np.testing.assert_array_equal(near.gain, lead_field_from_forward(surface, [[18], [68]]).gain)
    around = lead_field_from_forward(surface, centres, radius=15.0, space="head")
    away = np.linalg.norm(1e3 * surface["source_rr"] - centres[:, None], axis=-1)
    assert around.n_sources.tolist() == (away <= 15.0).sum(1).tolist() and around.n_sources.min() > 1
    far = np.array([[0.0, 0.0, 300.0]])
    for arguments in ({}, {"radius": 5.0}):
        with pytest.raises(DataError, match="region vertex has no source"):
            lead_field_from_forward(surface, far, regions=["vertex"], **arguments)
    with pytest.raises(DataError, match="MNI space, but the forward model is of the subject 'toy'"):
        lead_field_from_forward(surface, centres, space="mni")
    with pytest.raises(DataError, match="region empty has no source"):
        lead_field_from_forward(surface, {"full": [1], "empty": []})
    with pytest.raises(DataError, match="has the source 80, but the forward model has 80"):
        lead_field_from_forward(surface, [[80]])


def test_fif_round_trip(surface, tmp_path):
    path = tmp_path / "toy-fwd.fif"
    mne.write_forward_solution(path, surface)
    parcels = [[0, 1, 2], [50, 60]]
    back = lead_field_from_forward(path, parcels, reference="average")
    here = lead_field_from_forward(surface, parcels, reference="average")
    # FIF files hold single precision
    np.testing.assert_allclose(back.gain, here.gain, atol=1e-6 * np.abs(here.gain).max())
    assert back.sensors == tuple(NAMES) and np.abs(back.gain.sum(0)).max() < 1e-9
    with pytest.raises(DataError, match=r"nowhere-fwd.fif: file not found"):
        lead_field_from_forward(tmp_path / "nowhere-fwd.fif", parcels)
    mne.io.RawArray(np.zeros((1, 10)), mne.create_info(1, 10.0)).save(tmp_path / "a_raw.fif")
    with pytest.raises(DataError, match=r"a_raw.fif: file holds no forward solution"):
        lead_field_from_forward(tmp_path / "a_raw.fif", parcels)


def test_meg_forward_models_equal_the_sphere_built_here(tmp_path):
    where, _ = inside(3, 0.7, seed=6)
    here = sphere_lead_field(where, "free", kind="meg", space="head", sensors="mag")
    info = mne.channels.montage.read_meg_canonical_info("neuromag")
    shift = np.eye(4)
    shift[:3, 3] = (here.sensor_positions[0] / 1e3) - info["chs"][info.ch_names.index(here.sensors[0])][
        "loc"
    ][:3]
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", shift)
    forward = mne.make_forward_solution(
        mne.pick_info(info, mne.pick_types(info, meg="mag")),
        trans=mne.transforms.Transform("head", "mri", np.eye(4)),
        src=mne.setup_volume_source_space(pos={"rr": where / 1e3, "nn": np.eye(3)}, mindist=0.0),
        bem=mne.make_sphere_model(MIDDLE / 1e3, RADIUS / 1e3),
        meg=True,
        eeg=False,
        mindist=0.0,
    )
    mne.write_forward_solution(tmp_path / "meg-fwd.fif", forward)
    back = lead_field_from_forward(tmp_path / "meg-fwd.fif", [[0], [1], [2]])
    assert back.sensors == here.sensors and set(back.kinds) == {"mag"}
    # FIF files hold single precision
    np.testing.assert_allclose(back.gain, here.gain, atol=1e-6 * np.abs(here.gain).max())
    np.testing.assert_allclose(back.sensor_positions, here.sensor_positions, atol=1e-3)


def test_a_volume_has_no_orientation():
    grid = mne.setup_volume_source_space(sphere=(0.0, 0.011, 0.042, 0.06), pos=25.0, sphere_units="m")
    grid[0]["type"] = "vol"
    forward = forward_of(grid)
    field = lead_field_from_forward(forward, 1e3 * forward["source_rr"][[3, 9]] + 2.0, space="head")
    np.testing.assert_array_equal(field.gain, free_gain(forward)[:, [3, 9]])
    with pytest.raises(DataError, match="sources of a volume have no orientation"):
        lead_field_from_forward(forward, [[0]], orientation="fixed")


def test_contacts_in_a_homogeneous_medium():
    contacts = RADIUS * inside(6, 0.5, seed=7)[1]
    centre = np.full((1, 3), 1e-4)
    field = contact_lead_field(centre, contacts, conductivity=0.3)
    # at the surface of a sphere the potential of a dipole at its centre is three times that without a border;
    # it is off the centre by 1e-4 mm, where the closed form is defined
    np.testing.assert_allclose(3 * field.gain, homogeneous(contacts, centre, 0.3), rtol=1e-4, atol=1e-3)
    near = contact_lead_field([[0, 0, 0]], [[1, 0, 0], [5, 0, 0]], [[1, 0, 0]], sensors=["a", "b"])
    assert near.gain[0] == near.gain[1] and near.units == ("V/(A*m)",) * 2
    assert not contact_lead_field([[0, 0, 0]], [[1, 0, 0], [5, 0, 0]], reference="seeg1").gain[1].any()
    with pytest.raises(DataError, match="one of seeg, ecog, dbs"):
        contact_lead_field([[0, 0, 0]], [[1, 0, 0]], kind="eeg")


# --- the lead field itself -------------------------------------------------------------------------------


@pytest.fixture
def mixed():
    gain = np.random.default_rng(1).normal(size=(5, 3, 3))
    kinds = ["eeg", "mag", "eeg", "grad", "eeg"]
    return LeadField(gain, ["E1", "M1", "E2", "G1", "E3"], kinds, ["a", "b", "c"], n_sources=[1, 2, 3])


def test_references(mixed):
    average = mixed.referenced("average")
    assert np.abs(average.gain[[0, 2, 4]].sum(0)).max() < 1e-12
    np.testing.assert_array_equal(average.gain[[1, 3]], mixed.gain[[1, 3]])
    one = average.referenced("E2")
    assert not one.gain[2].any() and one.reference == "E2"
    np.testing.assert_allclose(one.gain[0], mixed.gain[0] - mixed.gain[2])
    np.testing.assert_allclose(one.referenced("average").gain, average.gain, atol=1e-12)
    assert average.pick(["E1", "M1"]).reference == "average of 3"
    assert average.pick(regions=["b"]).reference == "average"
    with pytest.raises(
        DataError, match=r"'M1'; it must be 'average' or one of the electrodes \(E1, E2, E3\)"
    ):
        mixed.referenced("M1")


def test_orientations(mixed):
    fixed = mixed.fixed(np.eye(3) * 2)
    np.testing.assert_allclose(fixed.gain, np.stack([mixed.gain[:, k, k] for k in range(3)], 1))
    strongest = mixed.pick("eeg").fixed("strongest")
    for _ in range(20):
        other = mixed.pick("eeg").fixed(np.random.default_rng(_).normal(size=(3, 3)))
        assert (np.linalg.norm(strongest.gain, axis=0) >= np.linalg.norm(other.gain, axis=0)).all()
    with pytest.raises(DataError, match="fixed orientations already"):
        fixed.fixed(np.eye(3))


def test_choosing_and_keeping(mixed, tmp_path):
    some = mixed.pick(["G1", "E1"], ["c", "a"])
    np.testing.assert_array_equal(some.gain, mixed.gain[[3, 0]][:, [2, 0]])
    assert some.kinds == ("grad", "eeg") and some.n_sources.tolist() == [3, 1]
    with pytest.raises(DataError, match="no region d; it has a, b, c"):
        mixed.pick(regions=["d"])
    with pytest.raises(DataError, match="no sensor of the kind 'ecog'; it has eeg, mag, grad"):
        mixed.pick("ecog")
    for field in (mixed, mixed.fixed(np.eye(3)).referenced("E3")):
        field.save(tmp_path / "field.zarr.zip")
        back = LeadField.load(tmp_path / "field.zarr.zip")
        np.testing.assert_array_equal(back.gain, field.gain)
        assert (back.sensors, back.kinds, back.regions, back.reference) == (
            field.sensors,
            field.kinds,
            field.regions,
            field.reference,
        )
        assert back.free == field.free and back.n_sources.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="no variable lead_field"):
        LeadField.from_xarray(xr.Dataset())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([[1.0, 2.0]], ["a", "b"], ["eeg"] * 2, ["x"]), "has the shape"),
        (([[1.0], [np.nan]], ["a", "b"], ["eeg"] * 2, ["x"]), "of sensor b and region x is nan"),
        (([[1.0], [1.0]], ["a", "a"], ["eeg"] * 2, ["x"]), "the sensor 'a' more than once"),
        (([[1.0]], ["a"], ["eog"], ["x"]), "the kind 'eog'"),
        (([[1.0]], ["a"], ["eeg"], ["x"], [[1.0, 0.0]]), "orientation of the lead field has the shape"),
    ],
)
def test_what_is_no_lead_field_is_said(arguments, says):
    with pytest.raises(DataError, match=says):
        LeadField(*arguments)


# --- matrices --------------------------------------------------------------------------------------------


def test_tables(tmp_path):
    path = tmp_path / "field.tsv"
    path.write_text("region\tCz\tPz\nleft\t1\t2\nright\t3\t4\n")
    field = lead_field_from_matrix(path, unit="mV/(A*m)", reference="Cz")
    assert (field.sensors, field.regions, field.reference) == (("Cz", "Pz"), ("left", "right"), "Cz")
    np.testing.assert_allclose(field.gain, [[1e-3, 3e-3], [2e-3, 4e-3]])
    (tmp_path / "field.json").write_text(json.dumps({"Units": "V/(A*m)", "Reference": "average"}))
    turned = lead_field_from_matrix(path, sensors=["Pz"], regions=["right", "left"])
    np.testing.assert_allclose(turned.gain, [[4.0, 2.0]])
    with pytest.raises(DataError, match=r"no region in .*field.tsv middle; it has left, right"):
        lead_field_from_matrix(path, regions=["middle"])
    # names tell what a square table is
    path.write_text("\tCz\tPz\nleft\t1\t2\nright\t3\t4\n")
    np.testing.assert_allclose(lead_field_from_matrix(path, regions=["left", "right"]).gain, [[1, 3], [2, 4]])
    with pytest.raises(DataError, match=r"field.tsv: lead field is square \(2 x 2\)"):
        lead_field_from_matrix(path)
    path.write_text("1\t2\t3\n4\t5\tx\n")
    with pytest.raises(DataError, match="line 2, column 3 is 'x'"):
        lead_field_from_matrix(path)
    path.write_text("1\t2\t3\n4\t5\t6\n")
    np.testing.assert_allclose(lead_field_from_matrix(path).gain, [[1, 2, 3], [4, 5, 6]])
    np.save(tmp_path / "field.npy", np.ones((3, 2, 3)))
    assert lead_field_from_matrix(tmp_path / "field.npy").free


def test_arrays_with_units_and_names():
    values = np.arange(6.0).reshape(3, 2)
    quantity = values * u.parse_unit("fT/(nA*m)")
    field = lead_field_from_matrix(quantity)
    assert set(field.kinds) == {"mag"}
    np.testing.assert_allclose(field.gain, values * 1e-6)
    assert set(lead_field_from_matrix(values, unit="fT/(cm*nA*m)").kinds) == {"grad"}
    mixed = lead_field_from_matrix(values, unit=["T/(A*m)", "T/(A*m^2)", "V/(A*m)"])
    assert mixed.kinds == ("mag", "grad", "eeg")
    named = xr.DataArray(
        values,
        {"region": ["a", "b", "c"], "sensor": ["x", "y"]},
        ("region", "sensor"),
        attrs={"units": "V/(A*m)"},
    )
    np.testing.assert_array_equal(lead_field_from_matrix(named).gain, values.T)
    assert lead_field_from_matrix(values, unit="V/(A*m)", kind="seeg").kinds == ("seeg",) * 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "has no unit"),
        ({"unit": "mV"}, "given in mV; it must be in a unit of V/"),
        ({"unit": "volts per something"}, "given in volts per something"),
        ({"unit": "V/(A*m)", "kind": "mag"}, "kind is 'mag', but the unit is that of eeg"),
        (
            {"unit": "V/(A*m)", "sensors": ["a", "b"]},
            r"3 sensors with dims=\('sensor', 'region'\), but 2 names",
        ),
        ({"unit": "V/(A*m)", "dims": ("time", "region")}, "dims is"),
        ({"unit": ["V/(A*m)"] * 2}, "2 units are given for 3 sensors"),
    ],
)
def test_what_is_no_matrix_is_said(arguments, says):
    with pytest.raises(DataError, match=says):
        lead_field_from_matrix(np.ones((3, 2)), **arguments)
