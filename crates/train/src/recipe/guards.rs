//! The mapping `stop_when` of the section `alignment`: guards and their bounds.

use std::ops::Bound;

use super::{
    keys,
    problem::What,
    read::{POSITIVE, Section},
    tree::{Entry, Value},
};
use crate::stopping::{Guard, StopWhen};

const KEY: &str = "stop_when";

/// Reads the guards; none if the key is unset. `has_pairs` says whether rows are compared, without
/// which there is no accuracy.
pub(super) fn read(section: &mut Section<'_>, has_pairs: bool) -> StopWhen {
    let Some(node) = section.node(KEY) else { return StopWhen::new() };
    let entries = match &node.value {
        Value::Map(entries) if !entries.is_empty() => entries,
        other => {
            let got = match other {
                Value::Map(_) => "an empty mapping".into(),
                other => other.describe(),
            };
            section.wrong(KEY, "a mapping such as `{reward_margin_above: 8}`", got);
            return StopWhen::new();
        }
    };
    let mut guards: StopWhen =
        entries.iter().filter_map(|entry| guard(section, entry, has_pairs)).collect();
    guards.sort_by_key(|(guard, _)| Guard::ALL.iter().position(|known| known == guard));
    guards
}

fn guard(section: &mut Section<'_>, entry: &Entry, has_pairs: bool) -> Option<(Guard, f64)> {
    let Entry { key, place, node } = entry;
    let Some(guard) = Guard::ALL.into_iter().find(|guard| guard.name() == key) else {
        let names = Guard::ALL.map(Guard::name);
        let near = keys::nearest(key, names.into_iter());
        let instead = near.map_or_else(
            || format!("guards are `{}`", names.join("`, `")),
            |near| format!("the nearest guard is `{near}`"),
        );
        let key = format!("alignment.{KEY}.{key}");
        section.report_at(place.clone(), What::UnknownKey { key, instead: Some(instead) });
        return None;
    };
    let (range, told) = match guard {
        Guard::RewardMarginAbove | Guard::LossAbove => (POSITIVE, "> 0"),
        Guard::AccuracyAtLeast => ((Bound::Excluded(0.0), Bound::Included(1.0)), "> 0 and <= 1"),
        Guard::ChosenRewardBelow => ((Bound::Unbounded, Bound::Unbounded), "a number"),
    };
    if guard == Guard::AccuracyAtLeast && !has_pairs {
        let what = What::NoEffect {
            key: format!("alignment.{KEY}.{key}"),
            when: "with a loss over unpaired rows".into(),
            hint: "remove it: without pairs there is no accuracy".into(),
        };
        section.report_at(place.clone(), what);
        return None;
    }
    let name = guard.name();
    let Some(bound) = node.as_number() else {
        let (wanted, got) = ("a number", node.value.describe());
        section.report_at(node.place.clone(), What::WrongKind { key: name, wanted, got });
        return None;
    };
    if !std::ops::RangeBounds::contains(&range, &bound) {
        let got = node.value.describe();
        let what = What::OutOfRange { key: name, range: told, got, hint: None };
        section.report_at(node.place.clone(), what);
        return None;
    }
    Some((guard, bound))
}

/// The guards as YAML.
pub(super) fn shown(stop_when: &StopWhen) -> String {
    if stop_when.is_empty() {
        return "null".into();
    }
    let guard = |(guard, bound): &(Guard, f64)| {
        format!("{}: {}", guard.name(), super::render::number(*bound))
    };
    format!("{{{}}}", stop_when.iter().map(guard).collect::<Vec<_>>().join(", "))
}
