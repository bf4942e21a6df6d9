//! Each function by its values and its errors.

use super::*;
use tf_provider::Function;

/// What a call gives: the value as JSON, or the first error with the argument's number.
async fn call<F>(function: F, input: F::Input<'static>) -> Result<serde_json::Value, String>
where
    F: Function + 'static,
{
    let mut diagnostics = Diagnostics::default();
    let value = function.call(&mut diagnostics, input).await;
    match (value, diagnostics.errors.first()) {
        (Some(value), None) => Ok(serde_json::to_value(value).unwrap()),
        (None, Some(error)) => Err(format!("{}: {}", error.attribute, error.summary)),
        (value, error) => panic!("value: {}, error: {error:?}", value.is_some()),
    }
}

fn s(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn clouds_are_taken_apart_and_compared() {
    use is_valid_backup_pair::IsValidBackupPair;
    use parse_cloud::ParseCloud;
    use same_cloud::SameCloud;
    let parts = call(ParseCloud, (s("avn-ovh-eu-west-1"),)).await.unwrap();
    let expect =
        serde_json::json!({"name": "avn-ovh-eu-west-1", "provider": "ovh", "region": "eu-west-1"});
    assert_eq!(parts, expect);
    let parts = call(ParseCloud, (s("nowhere"),)).await.unwrap();
    assert!(parts["provider"].is_null());
    let error = call(ParseCloud, (s("Frankfurt!"),)).await.unwrap_err();
    assert!(error.starts_with("[0]: `Frankfurt!` is not a cloud name."), "{error}");

    for (a, b, same, pair) in [
        ("aws-eu-west-1", "aws-eu-central-1", true, true),
        ("aws-eu-west-1", "aws-eu-west-1", true, false),
        ("aws-eu-west-1", "google-europe-west3", false, false),
        ("eu-frankfurt-1", "us-ashburn-1", true, true),
        ("nowhere", "elsewhere", false, false),
    ] {
        assert_eq!(call(SameCloud, (s(a), s(b))).await, Ok(same.into()), "{a} {b}");
        assert_eq!(call(IsValidBackupPair, (s(a), s(b))).await, Ok(pair.into()), "{a} {b}");
    }
    let error = call(SameCloud, (s("aws-eu-west-1"), s("!"))).await.unwrap_err();
    assert!(error.starts_with("[1]: "), "{error}");
    let error = call(IsValidBackupPair, (s("!"), s("a"))).await.unwrap_err();
    assert!(error.starts_with("[0]: "), "{error}");
}

#[tokio::test]
async fn times_are_normalized_and_compared() {
    use normalize_time::NormalizeTime;
    use time_in_window::TimeInWindow;
    let normal = call(NormalizeTime, (s("2026-11-23 08:41:12+01:00"),)).await;
    assert_eq!(normal, Ok("2026-11-23T07:41:12Z".into()));
    let error = call(NormalizeTime, (s("yesterday"),)).await.unwrap_err();
    assert!(error.starts_with("[0]: `yesterday` is not a time."), "{error}");

    let (start, end) = ("2026-11-23T07:00:00Z", "2026-11-23T09:00:00Z");
    let inside = |t: &str| call(TimeInWindow, (s(t), s(start), s(end)));
    for (t, expect) in [
        (start, true),
        (end, true),
        ("2026-11-23T06:59:59.999999Z", false),
        ("2026-11-23 10:00:00+01:00", true),
        ("2026-11-23T09:00:00.000001Z", false),
    ] {
        assert_eq!(inside(t).await, Ok(expect.into()), "{t}");
    }
    let error = call(TimeInWindow, (s(start), s(end), s(start))).await.unwrap_err();
    assert!(error.starts_with("[2]: the range ends before it begins"), "{error}");
    let error = call(TimeInWindow, (s(start), s("x"), s(end))).await.unwrap_err();
    assert!(error.starts_with("[1]: "), "{error}");
}

#[tokio::test]
async fn periods_are_seconds() {
    use duration_seconds::DurationSeconds;
    use rpo_seconds::RpoSeconds;
    assert_eq!(call(DurationSeconds, (s("1h30m"),)).await, Ok(5400.0.into()));
    assert_eq!(call(DurationSeconds, (s("250ms"),)).await, Ok(0.25.into()));
    let error = call(DurationSeconds, (s("soon"),)).await.unwrap_err();
    assert!(error.starts_with("[0]: `soon` is not a period"), "{error}");
    let rpo = |at: &str| call(RpoSeconds, (s("2026-11-23T07:00:00Z"), s(at)));
    assert_eq!(rpo("2026-11-23T07:03:12Z").await, Ok(192.0.into()));
    assert_eq!(rpo("2026-11-23T06:00:00Z").await, Ok(0.0.into()));
    assert!(rpo("later").await.unwrap_err().starts_with("[1]: "));
}

#[tokio::test]
async fn names_of_forks_are_valid_service_names() {
    use fork_name::ForkName;
    let at = "2026-11-23 08:41:12+01:00";
    let name = call(ForkName, (s("orders"), s(at))).await;
    assert_eq!(name, Ok("orders-20261123-074112".into()));
    let long = format!("{}-tail", "a".repeat(46));
    let name = call(ForkName, (long.clone(), s(at))).await.unwrap();
    let name = name.as_str().unwrap();
    assert_eq!(name, format!("{}-t-20261123-074112", "a".repeat(46)));
    assert!(crate::domain::ids::ServiceName::parse(name).is_ok());
    // A cut just behind a dash leaves no two dashes.
    let name = call(ForkName, (format!("{}-tail", "a".repeat(47)), s(at))).await.unwrap();
    assert_eq!(name.as_str().unwrap(), format!("{}-20261123-074112", "a".repeat(47)));
    assert!(call(ForkName, (s("Orders"), s(at))).await.unwrap_err().starts_with("[0]: "));
    assert!(call(ForkName, (s("orders"), s("x"))).await.unwrap_err().starts_with("[1]: "));
}
