//! The table of the suite, in Markdown.

use super::Timed;
use super::cases::{Ask, CASES, On};
use crate::subject::Subject;

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len().max(1) as f64).exp()
}

fn millis(timed: &Timed) -> Option<f64> {
    timed.time.map(|t| t.as_secs_f64() * 1000.0)
}

fn shown(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

fn multiple(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}x") } else { format!("{ratio:.0}x") }
}

/// Prints times, multiples of the first subject's, their geometric means, and where answers are unlike.
pub(crate) fn print(subjects: &[Subject], timed: &[Vec<Timed>]) {
    let names: Vec<String> = subjects
        .iter()
        .enumerate()
        .map(|(i, s)| if i == 0 { format!("{}, ms", s.name) } else { format!("{}, ms | |", s.name) })
        .map(|name| name.trim_end_matches('|').trim().to_owned())
        .collect();
    println!("\n| class | fleet | query | {} |", names.join(" | "));
    println!(
        "|---|---|---|{}",
        subjects
            .iter()
            .enumerate()
            .map(|(i, _)| if i == 0 { "---:|" } else { "---:|---:|" })
            .collect::<String>()
    );
    let mut ratios: Vec<Vec<(usize, f64)>> = vec![Vec::new(); subjects.len()];
    let mut notes = Vec::new();
    for (number, (case, row)) in CASES.iter().zip(timed).enumerate() {
        let Some(own) = row.first().and_then(millis) else { continue };
        let mut cells = vec![format!("**{}**", shown(own))];
        for (peer, theirs) in row.iter().enumerate().skip(1) {
            let name = subjects[peer].name;
            let Some(time) = millis(theirs) else {
                cells.push("fails | ".to_owned());
                continue;
            };
            ratios[peer].push((number, time / own));
            cells.push(format!("{} | {}", shown(time), multiple(time / own)));
            let distance = row[0].answer.distance(&theirs.answer);
            if row[0].answer.count != theirs.answer.count || distance > 1e-9 {
                notes.push(format!(
                    "- {name}: {} against our {} series, median distance {distance:.1e}: `{}`",
                    theirs.answer.count,
                    row[0].answer.count,
                    case.text()
                ));
            }
        }
        let fleet = match (case.on, case.ask) {
            (On::Wide, Ask::Range(_, steps)) => format!("wide, {steps} steps"),
            (On::Long, Ask::Range(_, steps)) => format!("long, {steps} steps"),
            (On::Wide, _) => "wide".to_owned(),
            (On::Long, _) => "long".to_owned(),
        };
        println!(
            "| {} | {fleet} | `{}` | {} |",
            case.class,
            case.text().replace('|', "\\|"),
            cells.join(" | ")
        );
    }
    let means = |of: &dyn Fn(usize) -> bool| {
        let mean = |peer: &Vec<(usize, f64)>| {
            let of: Vec<f64> = peer.iter().filter(|r| of(r.0)).map(|r| r.1).collect();
            if of.is_empty() { " | ".to_owned() } else { format!(" | **{}**", multiple(geometric_mean(&of))) }
        };
        ratios.iter().skip(1).map(mean).collect::<Vec<_>>().join(" | ")
    };
    println!("| **geometric mean** | | | | {} |", means(&|_| true));
    println!();
    let mut classes: Vec<&str> = CASES.iter().map(|c| c.class).collect();
    classes.dedup();
    for class in classes {
        println!("| {class} {} |", means(&|number| CASES[number].class == class));
    }
    for (subject, ratios) in subjects.iter().zip(&ratios).skip(1) {
        let slower: Vec<String> =
            ratios.iter().filter(|r| r.1 < 1.0).map(|r| format!("`{}`", CASES[r.0].text())).collect();
        let slower = if slower.is_empty() { "none".to_owned() } else { slower.join(", ") };
        println!("slower than {}: {slower}", subject.name);
    }
    println!("answers unlike:");
    notes.iter().for_each(|note| println!("{note}"));
}
