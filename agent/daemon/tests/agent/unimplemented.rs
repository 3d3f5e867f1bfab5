//! Calls that an agent never makes.

/// Writes methods that answer Unimplemented.
macro_rules! unimplemented_calls {
    ($($name:ident($request:ty) -> $response:ty;)*) => {
        $(
            fn $name<'s, 'a>(
                &'s self,
                _: tonic::Request<$request>,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<tonic::Response<$response>, tonic::Status>> + Send + 'a>>
            where
                's: 'a,
                Self: 'a,
            {
                Box::pin(async { Err(tonic::Status::unimplemented(stringify!($name))) })
            }
        )*
    };
}
pub(crate) use unimplemented_calls;
