//! `--dry-run` says what a run will need, of every recipe that is in the repository, with no data,
//! no memory and nothing written; a run that the machine has too little memory for says so before
//! its first stage.

#![allow(clippy::unwrap_used)]

mod program;

use program::{root, run};
use serde_json::Value;

/// Parameters of the recipes' models: Meta's checkpoints have as many.
const RECIPES: [(&str, u64); 9] = [
    ("1b", 1_235_814_400),
    ("8b", 8_030_261_248),
    ("70b", 70_553_706_496),
    ("405b-8k", 405_853_388_800),
    ("405b-128k", 405_853_388_800),
    ("continued", 2_410_176),
    ("speedrun", 2_410_176),
    ("tiny", 43_168),
    ("debug", 189_344),
];

fn recipe(name: &str) -> String {
    root().join("recipes").join(format!("{name}.toml")).to_string_lossy().into_owned()
}

/// What a command says as JSON in an empty folder, which it leaves empty.
fn dry(arguments: &[&str]) -> (Value, String) {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, errors) = run(dir.path(), &[arguments, &["--dry-run", "--json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}\n{errors}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{arguments:?}");
    (serde_json::from_str(&out).unwrap(), errors)
}

fn bytes(plan: &Value, kind: &str) -> u64 {
    let rows = plan["memory"].as_array().unwrap();
    let row = rows.iter().find(|row| row["kind"] == kind);
    row.map_or(0, |row| row["bytes"].as_u64().unwrap())
}

#[track_caller]
fn check(name: &str, parameters: u64) -> Value {
    // on one rank, whatever mesh the recipe has: `mesh.rs` looks at those
    let (mut said, lines) = dry(&["train", "--recipe", &recipe(name), "--mesh", "dp=1"]);
    let plan = said["plan"].take();
    assert_eq!(plan["parameters"], parameters, "{name}");
    let rows = plan["memory"].as_array().unwrap();
    let sum: u64 = rows.iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!(plan["total_bytes"], sum, "{name}");
    // A few elements between groups of parameters are no parameters.
    let per_parameter = |kind| bytes(&plan, kind) as f64 / parameters as f64;
    for kind in ["gradients", "first moments", "second moments"] {
        assert!((per_parameter(kind) - 4.0).abs() < 0.01, "{name} {kind}: {plan}");
    }
    let total = |key: &str| -> u64 {
        plan["levels"].as_array().unwrap().iter().map(|l| l[key].as_u64().unwrap()).sum()
    };
    assert_eq!((plan["steps"].as_u64(), plan["tokens"].as_u64()), {
        (Some(total("steps")), Some(total("tokens")))
    });
    assert!(plan["step"]["ops"].as_u64() > Some(0), "{plan}");
    // What follows training takes its time, too.
    let seconds = |key: &str| plan[key].as_f64().unwrap();
    let more = seconds("seconds_of_all") > seconds("seconds");
    assert_eq!(more, plan["later"].is_object(), "{name}: {plan}");
    // What is planned is not allocated.
    assert!(plan["peak_mib"].as_f64().unwrap() < 1024.0, "{name}: {plan}");
    for part in ["weights", "activations", "in all", "FLOP a token", "(assumed)", "from step"] {
        assert!(lines.contains(part), "{name}: {part}: {lines}");
    }
    plan
}

#[test]
fn every_recipe_has_a_plan() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("recipes")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        found.push(name.trim_end_matches(".toml").to_owned());
    }
    // Of curation alone: it has a dry run of its own, which looks at its input.
    found.retain(|name| name != "curate");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "One page.").unwrap();
    let (code, _, errors) =
        run(dir.path(), &["curate", &recipe("curate"), "--input", "a.txt", "--dry-run"]);
    assert_eq!(code, Some(0), "{errors}");
    found.sort();
    let mut known = RECIPES.map(|(name, _)| name.to_owned());
    known.sort();
    assert_eq!(found, known);
    for (name, parameters) in RECIPES {
        check(name, parameters);
    }
}

#[test]
fn the_plan_of_405b_is_the_papers() {
    let plan = check("405b-8k", 405_853_388_800);
    // bf16 weights, f32 gradients, master weights and both moments: 18 bytes a parameter.
    let states = ["weights", "gradients", "master weights", "first moments", "second moments"];
    let states: u64 = states.iter().map(|kind| bytes(&plan, kind)).sum();
    assert!((18 * 405_853_388_800..18 * 405_860_000_000).contains(&states), "{states}");
    let levels = plan["levels"].as_array().unwrap();
    let steps: Vec<u64> = levels.iter().map(|l| l["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [61, 342_101, 1_200_000 - 61 - 342_101]);
    // 6 for each parameter that is multiplied, and causal attention, at 8,192 tokens.
    let flop = plan["flop_per_token"].as_f64().unwrap();
    assert!((flop / 2.524e12 - 1.0).abs() < 1e-3, "{flop:e}");
    // What the device counts of a step has the same matrices; the backward pass makes some of the
    // forward's numbers again, and the optimizer's work is spread over one micro-batch only.
    let (tokens, counted) = (plan["step"]["tokens"].as_u64(), plan["step"]["flop"].as_f64());
    let counted = counted.unwrap() / tokens.unwrap() as f64;
    assert!(counted > 0.95 * flop && counted < 1.3 * flop, "{counted:e} {flop:e}");
}

#[test]
fn the_long_context_of_405b_is_800_billion_tokens_in_five_stages() {
    let plan = check("405b-128k", 405_853_388_800);
    let stage = |i| plan["later"][format!("context_extension_{i}")]["tokens"].as_u64().unwrap();
    let tokens: u64 = (1..=5).map(stage).sum();
    assert!((800_000_000_000..801_000_000_000).contains(&tokens), "{tokens}");
    assert!(
        plan["later"]["annealing"].is_object() && plan["later"]["context_extension_6"].is_null()
    );
}

#[test]
fn recomputation_takes_less_memory_and_is_no_work() {
    let plan = |recompute: &str| {
        let set = format!("train.recompute=\"{recompute}\"");
        dry(&["train", "--recipe", &recipe("1b"), "--set", &set]).0["plan"].take()
    };
    let ways = ["none", "elementwise", "block"].map(plan);
    for (more, less) in [(&ways[0], &ways[1]), (&ways[1], &ways[2])] {
        assert!(bytes(more, "activations") > bytes(less, "activations"), "{more} {less}");
        assert!(more["total_bytes"].as_u64() > less["total_bytes"].as_u64(), "{more} {less}");
        assert_eq!(more["flop_per_token"], less["flop_per_token"]);
    }
    assert_eq!(ways[2]["recompute"], "block");
}

/// The plan is what the process then holds: 5 % and 64 MiB more at most (the program itself), and
/// nothing is said that is not needed.
#[cfg(target_os = "linux")]
#[test]
fn a_step_takes_what_is_planned() {
    let dir = tempfile::tempdir().unwrap();
    let meshes = ["tp=2", "cp=2", "pp=2", "dp=2", "tp=2,dp=2", "dp=2,sharing=full"]
        .map(|mesh| ("f32", mesh));
    for (dtype, mesh) in [("f32", ""), ("bf16", ""), ("bf16", "dp=2")].into_iter().chain(meshes) {
        let sizes = ["--dim", "384", "--batch", "4", "--steps", "1", "--dtype", dtype, "--json"];
        let ranks = ["--mesh", mesh, "--micro-batch", "2"];
        let ranks = if mesh.is_empty() { &[][..] } else { &ranks[..] };
        let told = [&["bench", "train"], &sizes[..], ranks].concat();
        let (code, out, errors) = run(dir.path(), &told);
        assert_eq!(code, Some(0), "{errors}");
        let said: Value = serde_json::from_str(&out).unwrap();
        let mib = |key: &str| said[key].as_f64().unwrap();
        let (plan, peak) = (mib("plan_mib"), mib("peak_rss_mib"));
        println!("{dtype} [{mesh}] {peak:.0} of {plan:.0} MiB");
        assert!(plan > 150.0, "{dtype} {mesh}: the margin says something: {plan}");
        assert!(peak <= 1.05 * plan + 64.0, "{dtype} {mesh}: {peak} of {plan} MiB");
        assert!(peak >= 0.95 * plan, "{dtype} {mesh}: {peak} of {plan} MiB");
    }
}

#[test]
fn the_commands_that_train_say_the_same() {
    let tiny = recipe("tiny");
    let plan = |command| dry(&[command, "--recipe", &tiny]).0["plan"]["memory"].take();
    assert_eq!(plan("speedrun"), plan("train"));
    let later = |command| dry(&[command, "--recipe", &tiny]).0["plan"]["later"].take();
    let tuning = ["fine_tuning", "preference_training"];
    for stage in ["context_extension_1", "annealing"].into_iter().chain(tuning) {
        assert!(later("tune")[stage]["total_bytes"].as_u64() > Some(0), "{stage}");
    }
    assert_eq!(tuning.map(|stage| later("train")[stage].take()), [Value::Null, Value::Null]);
    assert_eq!(plan("tune"), plan("train"));
    assert_eq!(plan("curate"), Value::Null);
}

/// Elsewhere the system does not say how much memory there is.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_said_before_the_first_stage() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, code: i32, expected: &[&str]| {
        let (found, out, errors) = run(dir.path(), &["train", "--recipe", &recipe(name)]);
        assert_eq!((found, out.as_str()), (Some(code), ""), "{errors}");
        for part in expected {
            assert!(errors.contains(part), "{part}: {errors}");
        }
    };
    check("70b", 4, &["training takes", "TiB", "may hold", "--dry-run"]);
    check("405b-8k", 2, &["16384 ranks", "only 256 are threads", "mpirun -n 16384", "--dry-run"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_is_refused_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let check = |set: &str, expected: &[&str]| {
        let recipe = recipe("8b");
        let arguments = ["train", "--recipe", &recipe, "--dry-run", "--set", set];
        let (code, out, errors) = run(dir.path(), &arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{set}: {errors}");
        let words = |t: &str| t.split(|c: char| !c.is_alphanumeric()).collect::<String>();
        for part in expected {
            assert!(words(&errors).contains(&words(part)), "{set}: {part}: {errors}");
        }
    };
    check("model.rope_scalling=1", &["did you mean `rope_scaling`"]);
    check("model.heads=31", &["31 heads do not divide hidden_size 4096"]);
    check("model.kv_heads=7", &["7 key-value heads do not divide 32 heads"]);
    let short = ["train.ramp.sequence_length", "8192 is more than model.positions, 4096"];
    check("model.positions=4096", &short);
    check("mesh=\"tp=5\"", &["tp must divide the model's 32 heads"]);
}
