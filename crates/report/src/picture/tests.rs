//! Pictures read back as XML.

use roxmltree::{Document, Node};
use run::Event;

use super::*;

/// Steps with every metric, and an evaluation at every tenth.
fn run_of(name: &str, steps: u64) -> History {
    let mut events = Vec::new();
    for step in 1..=steps {
        let value = (step as f64).sin();
        let mut event = Event::new(step);
        let mut evaluation = Event::new(step);
        for metric in METRICS {
            event = event.with(metric.name, value.abs());
            evaluation = evaluation.with(&format!("eval_{}", metric.name), value.cos());
        }
        events.push(event);
        if step % 10 == 0 {
            events.push(evaluation);
        }
    }
    History { folder: name.into(), name: name.to_owned(), events }
}

/// The elements of that class, in order.
fn of_class<'a>(document: &'a Document<'a>, class: &str) -> Vec<Node<'a, 'a>> {
    let has = |node: &Node<'_, '_>| node.attribute("class") == Some(class);
    document.descendants().filter(has).collect()
}

fn texts(document: &Document<'_>) -> Vec<String> {
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.filter_map(|node| node.text()).map(str::to_owned).collect()
}

/// Every number of every line lies in its panel, but for lines that are cut off there.
fn assert_inside(document: &Document<'_>) {
    let lines = document.descendants().filter(|node| node.has_tag_name("polyline"));
    for line in lines.filter(|node| node.attribute("class") != Some("thin")) {
        let points = line.attribute("points").unwrap();
        for number in points.split([' ', ',']).map(|text| text.parse::<f64>().unwrap()) {
            assert!((0.0..=panel::WIDTH).contains(&number), "{points}");
        }
    }
}

#[test]
fn a_picture_has_every_metric_and_every_run() {
    let text = picture(&[run_of("first", 30), run_of("second", 20)]);
    let document = Document::parse(&text).unwrap();
    let texts = texts(&document);
    for metric in METRICS {
        assert!(texts.iter().any(|text| text == metric.name), "{}", metric.name);
        assert!(texts.iter().any(|text| text == metric.title), "{}", metric.title);
    }
    for name in ["first", "second"] {
        assert!(texts.iter().any(|text| text == name), "the legend lacks {name}");
    }
    let lines = of_class(&document, "line");
    let curves = lines.iter().filter(|node| node.has_tag_name("polyline")).count();
    assert_eq!(curves, 2 * METRICS.len(), "a training curve for each run and metric");
    let dashed = of_class(&document, "dashed");
    let curves = dashed.iter().filter(|node| node.has_tag_name("polyline")).count();
    assert_eq!(curves, 2 * METRICS.len(), "a held-out curve for each run and metric");
    let shapes = |class| of_class(&document, class).len();
    assert_eq!(shapes("hollow"), METRICS.len() * (3 + 2) + 1, "each evaluation, and the legend");
    assert_inside(&document);
}

#[test]
fn the_same_runs_give_the_same_picture() {
    let runs = [run_of("first", 100), run_of("second", 20)];
    assert_eq!(picture(&runs), picture(&runs));
    assert_ne!(picture(&runs), picture(&runs[..1]));
}

#[test]
fn names_are_text_whatever_is_in_them() {
    let name = "a<b>&\"c\"\u{1}</svg>\u{fffe}'\u{e9}";
    let text = picture(&[run_of(name, 3)]);
    let document = Document::parse(&text).unwrap();
    let want = "a<b>&\"c\"\u{fffd}</svg>\u{fffd}'\u{e9}";
    let titles = document.descendants().filter(|node| node.has_tag_name("title"));
    assert!(titles.filter_map(|node| node.text()).any(|text| text == want));
    assert!(texts(&document).contains(&want.to_owned()));
}

#[test]
fn runs_without_events_or_numbers_leave_an_empty_panel() {
    let nothing = run_of("nothing", 0);
    let mut bad = run_of("bad", 1);
    bad.events[0].values.iter_mut().for_each(|(_, value)| *value = f64::NAN.into());
    let text = picture(&[nothing, bad.clone()]);
    let document = Document::parse(&text).unwrap();
    let empty = texts(&document).iter().filter(|text| text.starts_with("not measured")).count();
    assert_eq!(empty, METRICS.len());
    assert!(!text.contains("NaN"));

    // A NaN among numbers is passed over, and a single point is a mark without a line.
    bad.events.push(Event::new(2).with("loss", 0.5));
    let text = picture(&[bad]);
    let document = Document::parse(&text).unwrap();
    let lines = document.descendants().filter(|node| node.has_tag_name("polyline"));
    assert_eq!(lines.count(), 0);
    let in_legend = 1;
    assert_eq!(of_class(&document, "mark").len(), 1 + in_legend);
}

#[test]
fn long_runs_are_drawn_with_few_points() {
    let runs: Vec<History> = (0..12).map(|run| run_of(&format!("{run}"), 2000)).collect();
    for (count, thin) in [(6, 6 * METRICS.len() + 1), (12, 0)] {
        let text = picture(&runs[..count]);
        assert!(text.len() < 700_000, "{} bytes", text.len());
        let document = Document::parse(&text).unwrap();
        assert_eq!(of_class(&document, "thin").len(), thin);
        assert_inside(&document);
        let texts = texts(&document);
        assert!(texts.iter().any(|text| text.ends_with("the mean over a tenth of the run")));
    }
}

#[test]
fn runs_past_the_last_look_are_counted() {
    let runs: Vec<History> =
        (0..RUNS_MAX + 3).map(|run| run_of(&format!("run {run}"), 2)).collect();
    let text = picture(&runs);
    let document = Document::parse(&text).unwrap();
    // The legend grows, and the picture with it.
    let root = document.root_element();
    let height: f64 = root.attribute("height").unwrap().parse().unwrap();
    assert!(f64::from(RUNS_MAX as u32) * 17.0 + 2.0 * panel::HEIGHT < height);
    let texts = texts(&document);
    assert!(texts.contains(&format!("run {}", RUNS_MAX - 1)));
    assert!(!texts.contains(&format!("run {RUNS_MAX}")));
    assert!(texts.contains(&"and 3 more, not drawn".to_owned()));
}

#[test]
fn only_pictures_of_ours_are_replaced() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("compare.svg");
    let (one, other) = (picture(&[run_of("one", 3)]), picture(&[run_of("other", 3)]));
    for picture in [&one, &other] {
        write(&path, picture).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), *picture);
    }
    for theirs in ["", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n"] {
        run::atomic::write(&path, theirs.as_bytes()).unwrap();
        assert!(matches!(write(&path, &one), Err(Error::NotOurs { .. })));
        assert_eq!(fs_err::read_to_string(&path).unwrap(), theirs);
    }
    let folder = home.path().join("folder.svg");
    fs_err::create_dir(&folder).unwrap();
    assert!(matches!(write(&folder, &one), Err(Error::NotOurs { .. })));
    for name in ["compare.png", "compare"] {
        assert!(matches!(write(&home.path().join(name), &one), Err(Error::NotSvg { .. })));
    }
    let nowhere = home.path().join("no/such/folder.svg");
    assert!(matches!(write(&nowhere, &one), Err(Error::Unwritten(_))));
}
