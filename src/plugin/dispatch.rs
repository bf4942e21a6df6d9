//! Routes each gRPC call to its answer, limits its size, and turns a panic into a diagnostic.

use crate::plugin::{
    answer::{Answer, Call},
    calls,
    registry::Registry,
};
use futures_util::{FutureExt, future::BoxFuture};
use std::{
    any::Any,
    convert::Infallible,
    marker::PhantomData,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
};
use tf_provider::Diagnostics;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, body::BoxBody, codec::ProstCodec, server::NamedService};
use tower_service::Service;

/// As much as Terraform itself accepts.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

type HttpRequest = http::Request<BoxBody>;
type HttpResponse = http::Response<BoxBody>;

/// The service `tfplugin6.Provider`.
#[derive(Clone)]
pub(super) struct ProviderService(pub(super) Arc<Registry>);

impl NamedService for ProviderService {
    const NAME: &'static str = "tfplugin6.Provider";
}

impl Service<HttpRequest> for ProviderService {
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let registry = Arc::clone(&self.0);
        async move { Ok(route(registry, request).await) }.boxed()
    }
}

async fn route(registry: Arc<Registry>, request: HttpRequest) -> HttpResponse {
    use calls::{
        ApplyResourceChangeRequest, CallFunctionRequest, CloseEphemeralResourceRequest,
        ConfigureProviderRequest, GetFunctionsRequest, GetMetadataRequest,
        GetProviderSchemaRequest, ImportResourceStateRequest, MoveResourceStateRequest,
        OpenEphemeralResourceRequest, PlanResourceChangeRequest, ReadDataSourceRequest,
        ReadResourceRequest, RenewEphemeralResourceRequest, StopProviderRequest,
        UpgradeResourceStateRequest, ValidateDataResourceConfigRequest,
        ValidateEphemeralResourceConfigRequest, ValidateProviderConfigRequest,
        ValidateResourceConfigRequest,
    };
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    match method.as_str() {
        "GetMetadata" => unary::<GetMetadataRequest>(registry, request).await,
        "GetProviderSchema" => unary::<GetProviderSchemaRequest>(registry, request).await,
        "ValidateProviderConfig" => unary::<ValidateProviderConfigRequest>(registry, request).await,
        "ConfigureProvider" => unary::<ConfigureProviderRequest>(registry, request).await,
        "StopProvider" => unary::<StopProviderRequest>(registry, request).await,
        "ValidateResourceConfig" => unary::<ValidateResourceConfigRequest>(registry, request).await,
        "UpgradeResourceState" => unary::<UpgradeResourceStateRequest>(registry, request).await,
        "ReadResource" => unary::<ReadResourceRequest>(registry, request).await,
        "PlanResourceChange" => unary::<PlanResourceChangeRequest>(registry, request).await,
        "ApplyResourceChange" => unary::<ApplyResourceChangeRequest>(registry, request).await,
        "ImportResourceState" => unary::<ImportResourceStateRequest>(registry, request).await,
        "MoveResourceState" => unary::<MoveResourceStateRequest>(registry, request).await,
        "ValidateDataResourceConfig" => {
            unary::<ValidateDataResourceConfigRequest>(registry, request).await
        }
        "ReadDataSource" => unary::<ReadDataSourceRequest>(registry, request).await,
        "ValidateEphemeralResourceConfig" => {
            unary::<ValidateEphemeralResourceConfigRequest>(registry, request).await
        }
        "OpenEphemeralResource" => unary::<OpenEphemeralResourceRequest>(registry, request).await,
        "RenewEphemeralResource" => unary::<RenewEphemeralResourceRequest>(registry, request).await,
        "CloseEphemeralResource" => unary::<CloseEphemeralResourceRequest>(registry, request).await,
        "GetFunctions" => unary::<GetFunctionsRequest>(registry, request).await,
        "CallFunction" => unary::<CallFunctionRequest>(registry, request).await,
        // Terraform asks for what newer versions of the protocol have, and lives without it.
        _ => Status::unimplemented(format!("{method} is not part of this provider")).into_http(),
    }
}

async fn unary<Q: Call>(registry: Arc<Registry>, request: HttpRequest) -> HttpResponse {
    let guarded = Guarded::<Q> { registry, call: PhantomData };
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<Q::Answer, Q>::default())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    grpc.unary(guarded, request).await
}

/// Answers one kind of call and survives a panic in it.
struct Guarded<Q> {
    registry: Arc<Registry>,
    call: PhantomData<fn(Q)>,
}

impl<Q: Call> tonic::server::UnaryService<Q> for Guarded<Q> {
    type Response = Q::Answer;
    type Future = BoxFuture<'static, Result<Response<Q::Answer>, Status>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let registry = Arc::clone(&self.registry);
        let call = request.into_inner();
        async move { Ok(Response::new(guard(&registry, call).await)) }.boxed()
    }
}

async fn guard<Q: Call>(registry: &Registry, call: Q) -> Q::Answer {
    let mut diagnostics = Diagnostics::default();
    // Taken before the call, which consumes the request.
    let (subject, on_panic) = (call.subject(), call.on_panic());
    let caught = AssertUnwindSafe(call.answer(registry, &mut diagnostics)).catch_unwind().await;
    let answer = caught.unwrap_or_else(|panic| {
        diagnostics.root_error(
            format!("The provider failed inside {subject}"),
            format!("{}. This is a bug in the provider.", panic_text(&*panic)),
        );
        on_panic
    });
    answer.with(diagnostics)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a text")
}

/// go-plugin's service through which Terraform ends the plugin.
#[derive(Clone)]
pub(super) struct ControllerService(pub(super) CancellationToken);

impl NamedService for ControllerService {
    const NAME: &'static str = "plugin.GRPCController";
}

impl Service<HttpRequest> for ControllerService {
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let shutdown = self.0.clone();
        async move {
            if !request.uri().path().ends_with("/Shutdown") {
                return Ok(Status::unimplemented("only Shutdown is answered").into_http());
            }
            let codec = ProstCodec::<calls::ShutdownResponse, calls::ShutdownRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(Shutdown(shutdown), request).await)
        }
        .boxed()
    }
}

struct Shutdown(CancellationToken);

impl tonic::server::UnaryService<calls::ShutdownRequest> for Shutdown {
    type Response = calls::ShutdownResponse;
    type Future = BoxFuture<'static, Result<Response<calls::ShutdownResponse>, Status>>;

    fn call(&mut self, _: Request<calls::ShutdownRequest>) -> Self::Future {
        self.0.cancel();
        async { Ok(Response::new(calls::ShutdownResponse {})) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{
        adapt::{
            provider::ProviderHandler,
            resource::{Applied, Planned, ResourceHandler, Stored},
        },
        calls::{ApplyResourceChangeRequest, PlanResourceChangeRequest, ReadResourceRequest},
        extra::Extra,
        registry::Offers,
        wire::{DynamicValue, Severity},
    };
    use async_trait::async_trait;
    use tf_provider::schema::Schema;

    /// Fails at everything, by a panic or by an error.
    enum Broken {
        Panics,
        Errs,
    }

    impl Broken {
        fn fail<T>(&self, diagnostics: &mut Diagnostics) -> Option<T> {
            diagnostics.root_warning("said before", "");
            match self {
                Self::Panics => panic!("boom {}", 1),
                Self::Errs => diagnostics.root_error("no luck", ""),
            }
            None
        }
    }

    impl Extra for Broken {}

    #[async_trait]
    impl ResourceHandler for Broken {
        fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema> {
            self.fail(diagnostics)
        }
        fn extra(&self) -> &dyn Extra {
            self
        }
        async fn validate(&self, diagnostics: &mut Diagnostics, _: &DynamicValue) -> Option<()> {
            self.fail(diagnostics)
        }
        async fn read(
            &self,
            diagnostics: &mut Diagnostics,
            _: &DynamicValue,
            _: &[u8],
        ) -> Option<Stored> {
            self.fail(diagnostics)
        }
        async fn plan(
            &self,
            diagnostics: &mut Diagnostics,
            _: &PlanResourceChangeRequest,
        ) -> Option<Planned> {
            self.fail(diagnostics)
        }
        async fn apply(
            &self,
            diagnostics: &mut Diagnostics,
            _: &ApplyResourceChangeRequest,
        ) -> Option<Applied> {
            self.fail(diagnostics)
        }
        async fn import(&self, diagnostics: &mut Diagnostics, _: String) -> Option<Stored> {
            self.fail(diagnostics)
        }
    }

    #[async_trait]
    impl ProviderHandler for Broken {
        fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema> {
            self.fail(diagnostics)
        }
        async fn validate(&self, diagnostics: &mut Diagnostics, _: &DynamicValue) -> Option<()> {
            self.fail(diagnostics)
        }
        async fn configure(
            &self,
            diagnostics: &mut Diagnostics,
            _: String,
            _: &DynamicValue,
        ) -> Option<()> {
            self.fail(diagnostics)
        }
    }

    fn registry() -> Registry {
        let mut offers = Offers::default();
        offers.resources.insert("panics", Box::new(Broken::Panics));
        offers.resources.insert("errs", Box::new(Broken::Errs));
        Registry { provider: Box::new(Broken::Errs), offers, stop: CancellationToken::new() }
    }

    fn value(byte: u8) -> Option<DynamicValue> {
        Some(DynamicValue { msgpack: vec![byte], json: Vec::new() })
    }

    #[tokio::test]
    async fn a_failed_change_keeps_the_prior_state() {
        for (name, summary) in
            [("panics", "The provider failed inside a change of a `panics`"), ("errs", "no luck")]
        {
            let request = ApplyResourceChangeRequest {
                type_name: name.to_owned(),
                prior_state: value(1),
                planned_state: value(2),
                config: value(2),
                planned_private: vec![3],
            };
            let answer = guard(&registry(), request).await;
            assert_eq!((answer.new_state, answer.private), (value(1), vec![3]), "{name}");
            let said: Vec<_> =
                answer.diagnostics.iter().map(|d| (d.severity(), d.summary.as_str())).collect();
            assert_eq!(said, [(Severity::Error, summary), (Severity::Warning, "said before")]);
        }
    }

    #[tokio::test]
    async fn a_failed_read_keeps_the_state() {
        for name in ["panics", "errs", "unheard_of"] {
            let request = ReadResourceRequest {
                type_name: name.to_owned(),
                current_state: value(1),
                private: vec![3],
            };
            let answer = guard(&registry(), request).await;
            assert_eq!((answer.new_state, answer.private), (value(1), vec![3]), "{name}");
            assert_eq!(answer.diagnostics[0].severity(), Severity::Error, "{name}");
        }
    }

    #[tokio::test]
    async fn a_panic_says_what_was_being_done_and_why_it_failed() {
        let request =
            calls::ImportResourceStateRequest { type_name: "panics".to_owned(), id: String::new() };
        let answer = guard(&registry(), request).await;
        assert_eq!(answer.imported_resources, []);
        let error = &answer.diagnostics[0];
        assert_eq!(error.summary, "The provider failed inside the import of a `panics`");
        assert_eq!(error.detail, "boom 1. This is a bug in the provider.");
    }
}
