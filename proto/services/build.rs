//! Generates gRPC server traits, servers and clients over the message types of `proto-messages`.
//!
//! The generator is our own for the size of what it makes. tonic's instantiates the whole path of a call, from
//! frames to trailers, once per method and side; with some 220 methods that was half of the server's code and
//! of its build time. Here that path exists once, for bytes (`src/call.rs`), and a method adds what is its own:
//! decoding, the call, encoding.

use std::{error::Error, fmt::Write};

use prost::Message;
use prost_build::{Method, Service, ServiceGenerator};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let fds = prost_types::FileDescriptorSet::decode(proto_descriptors::PRUNED)?;
    prost_build::Config::new()
        .extern_path(".temporal", "::proto_messages::temporal")
        .extern_path(".meridian", "::proto_messages::meridian")
        .extern_path(".google.rpc", "::proto_messages::google::rpc")
        .service_generator(Box::new(Services))
        .include_file("services.rs")
        .compile_fds(fds)?;
    Ok(())
}

struct Services;

impl ServiceGenerator for Services {
    fn generate(&mut self, service: Service, out: &mut String) {
        let written = client(&service, out).and_then(|()| server(&service, out));
        written.expect("a String takes everything");
    }
}

fn full_name(service: &Service) -> String {
    format!("{}.{}", service.package, service.proto_name)
}

fn path(service: &Service, method: &Method) -> String {
    format!("/{}/{}", full_name(service), method.proto_name)
}

fn client(service: &Service, out: &mut String) -> std::fmt::Result {
    let (name, module) = (&service.name, snake(&service.name));
    writeln!(
        out,
        r#"
/// Calls `{full}`.
pub mod {module}_client {{
    use crate::call::client::*;

    /// Calls `{full}` over a channel. Clones share the channel.
    #[derive(Clone, Debug)]
    pub struct {name}Client(Caller);

    impl {name}Client {{
        /// Calls over this channel.
        pub fn new(channel: Channel) -> Self {{
            Self(Caller::new(channel))
        }}

        /// Compresses requests; the server has to support it.
        #[must_use]
        pub fn send_compressed(self, encoding: CompressionEncoding) -> Self {{
            Self(self.0.send_compressed(encoding))
        }}

        /// Accepts compressed answers.
        #[must_use]
        pub fn accept_compressed(self, encoding: CompressionEncoding) -> Self {{
            Self(self.0.accept_compressed(encoding))
        }}

        /// Largest answer, in bytes; 4 MiB unless set.
        #[must_use]
        pub fn max_decoding_message_size(self, limit: usize) -> Self {{
            Self(self.0.max_decoding_message_size(limit))
        }}

        /// Largest request, in bytes; unlimited unless set.
        #[must_use]
        pub fn max_encoding_message_size(self, limit: usize) -> Self {{
            Self(self.0.max_encoding_message_size(limit))
        }}
"#,
        full = full_name(service)
    )?;
    for method in &service.methods {
        let (request, answer, call) = match (method.client_streaming, method.server_streaming) {
            (false, false) => ("IntoRequest<", method.output_type.clone(), "unary"),
            (false, true) => ("IntoRequest<", streaming(method), "server_streaming"),
            (true, true) => (
                "IntoStreamingRequest<Message = ",
                streaming(method),
                "streaming",
            ),
            (true, false) => panic!("no service here has a client-streaming method"),
        };
        let into = if method.client_streaming {
            "into_streaming_request"
        } else {
            "into_request"
        };
        writeln!(
            out,
            r#"
        /// Calls `{path}`.
        pub async fn {name}(
            &mut self,
            request: impl {request}{input}>,
        ) -> Result<Response<{answer}>, Status> {{
            self.0.{call}("{path}", request.{into}()).await
        }}"#,
            path = path(service, method),
            name = method.name,
            input = method.input_type,
        )?;
    }
    writeln!(out, "    }}\n}}")
}

fn streaming(method: &Method) -> String {
    format!("Streaming<{}>", method.output_type)
}

fn server(service: &Service, out: &mut String) -> std::fmt::Result {
    let (name, module, full) = (&service.name, snake(&service.name), full_name(service));
    writeln!(
        out,
        r#"
/// Serves `{full}`.
pub mod {module}_server {{
    use crate::call::server::*;

    /// The name under which it is served.
    pub const SERVICE_NAME: &str = "{full}";

    /// `{full}`. A method that is not implemented answers UNIMPLEMENTED.
    #[async_trait]
    pub trait {name}: Send + Sync + 'static {{"#
    )?;
    for method in &service.methods {
        let input = match method.client_streaming {
            true => format!("Streaming<{}>", method.input_type),
            false => method.input_type.clone(),
        };
        let answer = match method.server_streaming {
            true => format!("BoxStream<{}>", method.output_type),
            false => method.output_type.clone(),
        };
        writeln!(
            out,
            r#"
        /// Answers `{path}`.
        async fn {name}(&self, _request: Request<{input}>) -> Result<Response<{answer}>, Status> {{
            Err(unimplemented())
        }}"#,
            path = path(service, method),
            name = method.name,
        )?;
    }
    writeln!(
        out,
        r#"    }}

    /// Serves an implementation of [`{name}`]. Clones share it.
    #[derive(Debug)]
    pub struct {name}Server<T>(Arc<T>, Limits);

    impl<T> {name}Server<T> {{
        /// Serves this one.
        pub fn new(service: T) -> Self {{
            Self::from_arc(Arc::new(service))
        }}

        /// Serves one that others hold, too.
        pub fn from_arc(service: Arc<T>) -> Self {{
            Self(service, Limits::default())
        }}

        /// Accepts compressed requests.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {{
            self.1.accept.enable(encoding);
            self
        }}

        /// Compresses answers for clients that accept it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {{
            self.1.send.enable(encoding);
            self
        }}

        /// Largest request, in bytes; 4 MiB unless set.
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {{
            self.1.decoded = Some(limit);
            self
        }}
    }}

    impl<T> Clone for {name}Server<T> {{
        fn clone(&self) -> Self {{
            Self(self.0.clone(), self.1)
        }}
    }}

    impl<T> NamedService for {name}Server<T> {{
        const NAME: &'static str = SERVICE_NAME;
    }}

    impl<T: {name}> Service<http::Request<Body>> for {name}Server<T> {{
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Answer;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {{
            Poll::Ready(Ok(()))
        }}

        fn call(&mut self, request: http::Request<Body>) -> Answer {{
            let service = self.0.clone();
            match request.uri().path() {{"#
    )?;
    for method in &service.methods {
        let call = match (method.client_streaming, method.server_streaming) {
            (false, false) => "unary",
            (false, true) => "server_streaming",
            _ => "streaming",
        };
        writeln!(
            out,
            r#"                "{path}" => {call}(self.1, request, |r| Box::pin(async move {{ service.{name}(r).await }})),"#,
            path = path(service, method),
            name = method.name,
        )?;
    }
    writeln!(
        out,
        r#"                path => no_such_method(path),
            }}
        }}
    }}
}}"#
    )
}

/// `WorkflowService` as a module's name.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
