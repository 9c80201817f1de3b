use cluster_runtime::overload::Refused;
use proto_messages::temporal::api::{
    enums::v1::{NamespaceState, ResourceExhaustedCause, ResourceExhaustedScope},
    errordetails::v1 as detail,
};
use tonic::{Code, Status};

use super::*;

#[test]
fn the_first_detail_is_the_failure() {
    let status = namespace_not_active("orders", "west", "east");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let first = &details(&status)[0];
    assert_eq!(
        first.type_url,
        "type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotActiveFailure"
    );
    let failure: detail::NamespaceNotActiveFailure = decode_detail(&status).unwrap();
    assert_eq!(
        (
            failure.current_cluster.as_str(),
            failure.active_cluster.as_str()
        ),
        ("west", "east")
    );
    assert!(decode_detail::<detail::NotFoundFailure>(&status).is_none());
    assert!(decode_detail::<detail::NotFoundFailure>(&Status::not_found("x")).is_none());
}

#[test]
fn a_throttle_tells_its_cause_in_headers_too() {
    let status = resource_exhausted(
        ResourceExhaustedCause::RpsLimit,
        ResourceExhaustedScope::Namespace,
        "namespace rate limit exceeded",
    );
    assert_eq!(
        status.metadata().get(RESOURCE_EXHAUSTED_CAUSE).unwrap(),
        "RpsLimit"
    );
    assert_eq!(
        status.metadata().get(RESOURCE_EXHAUSTED_SCOPE).unwrap(),
        "Namespace"
    );
    let text = namespace_invalid_state("x", NamespaceState::Deleted, &[NamespaceState::Registered]);
    assert_eq!(
        text.message(),
        "Namespace has invalid state: Deleted. Must be Registered."
    );
}

#[test]
fn clients_see_neither_the_inside_nor_shards() {
    let masked = for_clients(internal("disk /dev/sda is full"), Masking::Masked);
    assert!(
        masked
            .message()
            .starts_with("something went wrong, please retry ("),
        "{masked}"
    );
    assert_eq!(
        for_clients(internal("disk"), Masking::Open).message(),
        "disk"
    );
    let lost = for_clients(shard_ownership_lost("a", "b"), Masking::Masked);
    assert_eq!(lost.code(), Code::Unavailable);
    let long = for_clients(not_found("é".repeat(3_000)), Masking::Masked);
    // Six bytes each on the wire, and the text stands there twice.
    assert_eq!(long.message().len(), 800);
    assert!(long.details().len() < 1_000);
    assert!(decode_detail::<detail::NotFoundFailure>(&long).is_some());
}

#[test]
fn an_overloaded_process_says_so_in_the_first_detail() {
    for (why, cause) in [
        (
            Refused::Overloaded,
            ResourceExhaustedCause::SystemOverloaded,
        ),
        (Refused::Deadline, ResourceExhaustedCause::SystemOverloaded),
        (Refused::Behind, ResourceExhaustedCause::SystemOverloaded),
        (Refused::InFlight, ResourceExhaustedCause::ConcurrentLimit),
    ] {
        let status = overloaded(why);
        assert_eq!(status.code(), Code::ResourceExhausted);
        let failure: detail::ResourceExhaustedFailure = decode_detail(&status).unwrap();
        assert_eq!(failure.cause(), cause);
        assert_eq!(failure.scope(), ResourceExhaustedScope::System);
    }
}
