use super::*;

#[test]
fn an_address_or_a_name_has_a_port() {
    for text in [
        "127.0.0.1:7070",
        "[::1]:0",
        "localhost:7070",
        "node-1.example:1",
    ] {
        let parsed = text.parse::<ListenAt>().unwrap();
        assert_eq!(parsed.to_string(), text);
        assert_eq!(format!("tcp://{text}").parse(), Ok(parsed));
        for asked in ["", "?client-cert=optional", "?client-cert=required"] {
            let url = format!("tls://{text}{asked}");
            assert_eq!(url.parse::<ListenAt>().unwrap().to_string(), url);
        }
    }
    for wrong in [
        "",
        "nonsense",
        "127.0.0.1",
        "300.0.0.1:7070",
        "::1:7070",
        "[::1",
        ":7070",
        "*:7070",
        "localhost:",
        "localhost:http",
        "tcp://",
    ] {
        assert_eq!(wrong.parse::<ListenAt>(), Err(FORM.to_owned()), "{wrong}");
    }
}

#[test]
fn a_unix_socket_has_a_path_and_a_mode() {
    for (text, shown) in [
        ("unix:/run/a.sock", "unix:/run/a.sock?mode=0600"),
        ("unix:///run/a.sock?mode=660", "unix:/run/a.sock?mode=0660"),
        ("unix:/a?mode=0777", "unix:/a?mode=0777"),
        ("UNIX:/a", "unix:/a?mode=0600"),
    ] {
        let parsed = text.parse::<ListenAt>().unwrap();
        assert_eq!(parsed.to_string(), shown);
    }
    let long = format!("unix:/{}", "x".repeat(107));
    for (wrong, problem) in [
        ("unix:a.sock", "its path must begin with /"),
        ("unix:7070", "its path must begin with /"),
        ("unix:", "its path must begin with /"),
        ("unix://host/a", "its path must begin with /"),
        (long.as_str(), "its path has 108 bytes; at most 107"),
        (
            "unix:/a?mode=0888",
            "its mode `0888` is not from 0000 to 0777",
        ),
        (
            "unix:/a?mode=1777",
            "its mode `1777` is not from 0000 to 0777",
        ),
        ("unix:/a?mode=", "its mode `` is not from 0000 to 0777"),
        ("unix:/a?mode=+7", "its mode `+7` is not from 0000 to 0777"),
        ("unix:/a?mode", "its parameter `mode` has no value"),
        (
            "unix:/a?mode=1&mode=1",
            "its parameter `mode` is given twice",
        ),
        ("unix:/a?", "its parameter `` has no value"),
        ("tls://a:1?client-cert=yes", "its client-cert `yes` is not"),
    ] {
        let error = wrong.parse::<ListenAt>().unwrap_err();
        assert!(error.starts_with(problem), "{wrong}: {error}");
    }
}

#[test]
fn what_is_not_known_is_refused_with_what_was_meant() {
    for (wrong, problem) in [
        (
            "unix:/a?mod=0600",
            "its parameter `mod` is not known; did you mean `mode`?",
        ),
        (
            "unix:/a?x=1",
            "its parameter `x` is not known; unix has mode, services",
        ),
        (
            "tcp://[::1]:1?mode=1",
            "its parameter `mode` is not known; tcp has proxy, services",
        ),
        (
            "tls://[::1]:1?proxi=x",
            "its parameter `proxi` is not known; did you mean `proxy`?",
        ),
        (
            "tls://[::1]:1?x=1",
            "its parameter `x` is not known; tls has client-cert, proxy, services",
        ),
        ("127.0.0.1:1?mode=1", "parameters need a URL"),
        (
            "http://localhost:7070",
            "its scheme `http` is not tcp, tls or unix",
        ),
    ] {
        let error = wrong.parse::<ListenAt>().unwrap_err();
        assert!(error.starts_with(problem), "{wrong}: {error}");
    }
}

#[test]
fn a_listener_behind_proxies_names_their_addresses() {
    for (text, shown) in [
        (
            "tcp://[::]:1?proxy=10.0.0.0/8,fd00::/8",
            "tcp://[::]:1?proxy=10.0.0.0/8,fd00::/8",
        ),
        (
            "tcp://a:1?proxy=192.0.2.7,::1",
            "tcp://a:1?proxy=192.0.2.7/32,::1/128",
        ),
        (
            "tls://a:1?proxy=10.0.0.0/8&client-cert=required",
            "tls://a:1?client-cert=required&proxy=10.0.0.0/8",
        ),
    ] {
        let parsed: ListenAt = text.parse().unwrap();
        assert_eq!(parsed.to_string(), shown);
        assert_eq!(shown.parse(), Ok(parsed));
    }
    let at: ListenAt = "tcp://127.0.0.1:1?proxy=10.0.0.0/8,::1".parse().unwrap();
    let Listen::Tcp { proxies, .. } = at.place().unwrap() else {
        panic!("it is TCP");
    };
    assert_eq!(proxies, ["10.0.0.0/8", "::1"].map(|it| it.parse().unwrap()));
    for (wrong, problem) in [
        (
            "tcp://a:1?proxy=",
            "its proxy ``: it is not an address or a range of them, such as 10.0.0.0/8",
        ),
        ("tcp://a:1?proxy=10.0.0.0/8,", "its proxy ``: it is not"),
        (
            "tls://a:1?proxy=10.0.0.0/8,lb.example",
            "its proxy `lb.example`: it is not",
        ),
        (
            "tcp://a:1?proxy=10.0.0.0/33",
            "its proxy `10.0.0.0/33`: its bits are not from 0 to 32",
        ),
        (
            "tcp://a:1?proxy=10.1.2.3/8",
            "its proxy `10.1.2.3/8`: its address has more than those bits; the range is 10.0.0.0/8",
        ),
        (
            "tcp://a:1?proxy=::ffff:10.0.0.0/104",
            "its proxy `::ffff:10.0.0.0/104`: write it as a range of IPv4: 10.0.0.0 in place",
        ),
        (
            "tcp://a:1?proxy=::1&proxy=::1",
            "its parameter `proxy` is given twice",
        ),
        (
            "unix:/a?proxy=10.0.0.0/8",
            "its parameter `proxy` is for tcp and tls: the peer",
        ),
        (
            "unix:/a?mode=0600&proxy",
            "its parameter `proxy` is for tcp and tls: the peer",
        ),
    ] {
        let error = wrong.parse::<ListenAt>().unwrap_err();
        assert!(error.starts_with(problem), "{wrong}: {error}");
    }
}

#[test]
fn a_listener_of_any_kind_says_what_it_serves() {
    for url in ["tcp://a:1", "tls://a:1", "unix:/a?mode=0600"] {
        for (services, expected) in [("public", Services::Public), ("admin", Services::Admin)] {
            let join = if url.contains('?') { '&' } else { '?' };
            let text = format!("{url}{join}services={services}");
            let parsed: ListenAt = text.parse().unwrap();
            assert_eq!(parsed.services, expected);
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!(url.parse::<ListenAt>().unwrap().services, Services::All);
    }
    let at: ListenAt = "tcp://127.0.0.1:1?services=admin".parse().unwrap();
    let place = at.place().unwrap();
    assert!(matches!(
        place,
        Listen::Tcp {
            services: Services::Admin,
            ..
        }
    ));
    for (wrong, problem) in [
        (
            "tcp://a:1?services=all",
            "its services `all` are not public or admin",
        ),
        (
            "tcp://a:1?services=",
            "its services `` are not public or admin",
        ),
        (
            "unix:/a?service=admin",
            "its parameter `service` is not known; did you mean `services`?",
        ),
        (
            "unix:/a?services=admin&services=public",
            "its parameter `services` is given twice",
        ),
    ] {
        let error = wrong.parse::<ListenAt>().unwrap_err();
        assert!(error.starts_with(problem), "{wrong}: {error}");
    }
}

#[test]
fn one_value_has_places_separated_by_blanks() {
    let list: ListenList = " 127.0.0.1:1  unix:/a ".parse().unwrap();
    let places = ListenList::places(&[list, "[::1]:2".parse().unwrap()]).unwrap();
    assert_eq!(places.len(), 3);
    assert!(matches!(&places[1], Listen::Unix { socket, .. } if socket.mode == 0o600));
    assert_eq!(" ".parse::<ListenList>(), Err(FORM.to_owned()));
    let error = "127.0.0.1:1 unix:a".parse::<ListenList>().unwrap_err();
    assert!(error.starts_with("`unix:a`: its path"), "{error}");
}

#[test]
fn a_place_that_is_given_twice_is_named() {
    for (text, repeated) in [
        ("127.0.0.1:1 unix:/a 127.0.0.1:2", None),
        ("127.0.0.1:0 127.0.0.1:0", None),
        ("127.0.0.1:1 tls://127.0.0.1:1", Some("127.0.0.1:1")),
        ("unix:/a unix:///a?mode=0660", Some("unix:/a")),
    ] {
        let list: ListenList = text.parse().unwrap();
        assert_eq!(ListenList::repeated(&[list]).as_deref(), repeated, "{text}");
    }
}

#[test]
fn a_port_that_is_none_is_named_before_the_form() {
    for (wrong, port) in [
        ("127.0.0.1:99999", "99999"),
        ("localhost:65536", "65536"),
        ("[::1]:123456789012345678901", "123456789012345678901"),
    ] {
        let problem = format!("its port {port} is not from 0 to 65535; must be ADDRESS:PORT");
        let error = wrong.parse::<ListenAt>().unwrap_err();
        assert!(error.starts_with(&problem), "{error}");
        let error = address(wrong).unwrap_err();
        assert!(error.starts_with(&problem), "{error}");
    }
}

#[test]
fn an_address_is_its_own() {
    let at: ListenAt = "127.0.0.1:7070".parse().unwrap();
    let own = SocketAddr::from(([127, 0, 0, 1], 7070));
    assert_eq!(at.place().unwrap(), own.into());
}
