//! Pairs of one prompt as one group: which answer is above which follows from all of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::check::{Problem, answer_hash, prompt_hash};
use crate::record::{Content, Record};
use crate::report::{Action, DataReport, Made};

/// A record on its way into the dataset.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// The record.
    pub(crate) record: Record,
    /// The weight of its source.
    pub(crate) weight: f64,
    /// The row that it came from, counted over all files.
    pub(crate) row: usize,
}

/// Puts the pairs of each prompt together; groups and prompts with a lone pair stay as they are.
///
/// The answers of a prompt are the nodes of a graph, with an edge from the chosen to the rejected
/// one of each pair. Pairs on a cycle contradict each other and are left out. Of the rest,
///
/// ```text
/// level(answer) = length of the longest path that ends there        0 is best
/// score(answer) = 1 - level / highest level
/// ```
///
/// so that answers of one level are ties. A group stands where its first pair stood, and its weight
/// is the mean of theirs. Rows of which nothing is used are unmarked in `used`.
pub(crate) fn by_prompt(slots: Vec<Slot>, used: &mut [bool], report: &mut DataReport) -> Vec<Slot> {
    let mut of_prompt: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (place, slot) in slots.iter().enumerate() {
        let record = &slot.record;
        if record.completions.len() == 2 && !record.extras.contains_key("scores") {
            of_prompt.entry(prompt_hash(record)).or_default().push(place);
        }
    }
    let mut slots: Vec<Option<Slot>> = slots.into_iter().map(Some).collect();
    let mut made = 0;
    for places in of_prompt.into_values().filter(|places| 1 < places.len()) {
        let pairs: Vec<Slot> = places.iter().filter_map(|place| slots[*place].take()).collect();
        let group = group(&pairs, used, report);
        made += u64::from(group.is_some());
        slots[places[0]] = group;
    }
    report.add_made(Made::GroupOfPairs, made);
    slots.into_iter().flatten().collect()
}

/// One group of pairs with the same prompt; nothing if all contradict each other.
fn group(pairs: &[Slot], used: &mut [bool], report: &mut DataReport) -> Option<Slot> {
    let (answers, edges) = graph(pairs);
    let parts = components(answers.len(), &edges);
    let (mut sound, mut kept) = (Vec::new(), Vec::new());
    for (pair, (above, below)) in pairs.iter().zip(&edges) {
        used[pair.row] = false;
        if parts[*above] == parts[*below] {
            let detail = "in a circle of preferences over its prompt";
            report.add(Problem::Contradiction, Action::Dropped, &pair.record.origin, detail);
        } else {
            sound.push((*above, *below));
            kept.push(pair);
        }
    }
    for pair in &kept {
        used[pair.row] = true;
    }
    let levels = levels(answers.len(), &sound);
    let lowest = levels.iter().flatten().max().copied().unwrap_or(0);
    let mut order: Vec<(usize, usize)> =
        levels.iter().enumerate().filter_map(|(at, level)| Some(((*level)?, at))).collect();
    order.sort_unstable();
    let score = |(level, _): &(usize, usize)| 1.0 - *level as f64 / lowest.max(1) as f64;
    let first = kept.first()?;
    let mut record = first.record.clone();
    record.extras = in_common(&kept);
    record.extras.insert("scores".into(), json!(order.iter().map(score).collect::<Vec<_>>()));
    record.completions = order.iter().map(|(_, at)| answers[*at].clone()).collect();
    let weight = kept.iter().map(|pair| pair.weight).sum::<f64>() / kept.len() as f64;
    Some(Slot { record, weight, row: first.row })
}

/// The different answers of pairs, in the order in which they appear, and of each pair which of
/// them is chosen and which rejected.
fn graph(pairs: &[Slot]) -> (Vec<&Content>, Vec<(usize, usize)>) {
    let mut answers = Vec::new();
    let mut places = BTreeMap::new();
    let mut place = |answer| {
        *places.entry(answer_hash(answer)).or_insert_with(|| {
            answers.push(answer);
            answers.len() - 1
        })
    };
    let mut edges = Vec::with_capacity(pairs.len());
    for pair in pairs {
        if let [chosen, rejected] = pair.record.completions.as_slice() {
            edges.push((place(chosen), place(rejected)));
        }
    }
    (answers, edges)
}

/// The columns that say the same in all pairs.
fn in_common(pairs: &[&Slot]) -> Map<String, Value> {
    let mut common = pairs.first().map(|pair| pair.record.extras.clone()).unwrap_or_default();
    common.retain(|name, value| {
        pairs.iter().all(|pair| pair.record.extras.get(name) == Some(&*value))
    });
    common
}

/// The neighbours of every node along edges.
fn neighbours(count: usize, edges: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); count];
    for (from, to) in edges {
        lists[from].push(to);
    }
    lists
}

/// Strongly connected components (Kosaraju 1978): two nodes have one number if and only if a path
/// leads from each to the other.
fn components(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let down = neighbours(count, edges.iter().copied());
    let up = neighbours(count, edges.iter().map(|(above, below)| (*below, *above)));
    let mut finished = Vec::with_capacity(count);
    let mut is_seen = vec![false; count];
    for start in 0..count {
        // A path of nodes, each with how many of its neighbours were looked at.
        let mut path = if is_seen[start] { Vec::new() } else { vec![(start, 0)] };
        is_seen[start] = true;
        while let Some((node, looked)) = path.last_mut() {
            let Some(next) = down[*node].get(*looked).copied() else {
                finished.push(*node);
                path.pop();
                continue;
            };
            *looked += 1;
            if !is_seen[next] {
                is_seen[next] = true;
                path.push((next, 0));
            }
        }
    }
    let mut parts = vec![usize::MAX; count];
    for (part, start) in finished.into_iter().rev().enumerate() {
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            if parts[node] == usize::MAX {
                parts[node] = part;
                open.extend(&up[node]);
            }
        }
    }
    parts
}

/// How long the longest path to each node is; nothing for nodes without an edge. The edges have no
/// cycle.
fn levels(count: usize, edges: &[(usize, usize)]) -> Vec<Option<usize>> {
    let down = neighbours(count, edges.iter().copied());
    let mut levels = vec![None; count];
    let mut above = vec![0_usize; count];
    for (from, to) in edges {
        levels[*from] = Some(0);
        above[*to] += 1;
    }
    let mut open: Vec<usize> = (0..count).filter(|node| above[*node] == 0).collect();
    while let Some(node) = open.pop() {
        for next in &down[node] {
            levels[*next] = levels[*next].max(levels[node].map(|level| level + 1));
            above[*next] -= 1;
            if above[*next] == 0 {
                open.push(*next);
            }
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_are_longest_paths() {
        // 0 above 1 above 2, 0 above 2, 3 above 2; 4 is in no pair.
        let levels = levels(5, &[(0, 1), (1, 2), (0, 2), (3, 2)]);
        assert_eq!(levels, [Some(0), Some(1), Some(2), Some(0), None]);
    }

    /// Which node reaches which, by trying all ways (Warshall).
    fn reached(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<bool>> {
        let mut reached = vec![vec![false; count]; count];
        for (from, to) in edges {
            reached[*from][*to] = true;
        }
        for (by, from) in (0..count).flat_map(|by| (0..count).map(move |from| (by, from))) {
            for to in 0..count {
                reached[from][to] |= reached[from][by] && reached[by][to];
            }
        }
        reached
    }

    proptest! {
        #[test]
        fn nodes_of_one_component_reach_each_other(
            edges in prop::collection::vec((0..7_usize, 0..7_usize), 0..16),
        ) {
            let parts = components(7, &edges);
            let reached = reached(7, &edges);
            for one in 0..7 {
                for other in (0..7).filter(|other| *other != one) {
                    let both = reached[one][other] && reached[other][one];
                    prop_assert_eq!(parts[one] == parts[other], both, "{} {}", one, other);
                }
            }
            // Without the edges inside components every edge leads to a deeper level.
            let sound: Vec<_> =
                edges.iter().copied().filter(|(a, b)| parts[*a] != parts[*b]).collect();
            let levels = levels(7, &sound);
            for (above, below) in sound {
                prop_assert!(levels[above] < levels[below]);
            }
        }
    }
}
