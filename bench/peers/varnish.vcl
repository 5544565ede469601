vcl 4.1;

backend origin {
    .host = "@ORIGIN_HOST@";
    .port = "@ORIGIN_PORT@";
}

sub vcl_recv {
    if (req.url ~ "^/pass") {
        return (pass);
    }
    # The rest of Varnish's own rules would pass each request with a cookie.
    return (hash);
}

sub vcl_backend_response {
    set beresp.ttl = 1d;
}
