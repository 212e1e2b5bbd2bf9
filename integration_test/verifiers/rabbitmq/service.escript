#!/usr/bin/env escript
%% RabbitMQ's OAuth 2 plugin, as Debian packages it, without the broker: the module that decides about a login with a
%% token, and the libraries that it needs.
%%
%% It prints the address it listens on and answers GET / with the name of the caller, or 401 and the reason.
%%
%%   SERVICE_ISSUER    the token server
%%   SERVICE_AUDIENCE  the resource server's id
%%   SERVICE_ALG       the one algorithm it accepts
main(_) ->
    [code:add_patha(Path) || Path <- filelib:wildcard("/usr/lib/rabbitmq/lib/*/plugins/*/ebin")],
    {ok, _} = application:ensure_all_started(inets),
    {ok, _} = application:ensure_all_started(ssl),
    {ok, _} = application:ensure_all_started(jose),
    logger:set_primary_config(level, none), % a refused token is a line otherwise
    Set = fun(Key, Value) -> application:set_env(rabbitmq_auth_backend_oauth2, Key, Value) end,
    Set(resource_server_id, list_to_binary(os:getenv("SERVICE_AUDIENCE"))),
    Set(key_config, [
        {jwks_url, os:getenv("SERVICE_ISSUER") ++ "/.well-known/jwks.json"},
        {algorithms, [list_to_binary(os:getenv("SERVICE_ALG"))]}
    ]),
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {packet, http_bin}, {active, false}, {backlog, 64}]),
    {ok, Port} = inet:port(Listener),
    io:format("http://127.0.0.1:~b/~n", [Port]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> serve(Socket, none) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener).

serve(Socket, Token) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, {http_header, _, 'Authorization', _, <<"Bearer ", Given/binary>>}} -> serve(Socket, Given);
        {ok, http_eoh} -> answer(Socket, Token), serve(Socket, none);
        {ok, _} -> serve(Socket, Token);
        {error, _} -> gen_tcp:close(Socket)
    end.

answer(Socket, none) -> answer(Socket, 401, <<"no token">>);
answer(Socket, Token) ->
    try rabbit_auth_backend_oauth2:user_login_authentication(<<>>, [{password, Token}]) of
        {ok, User} -> answer(Socket, 200, element(2, User));
        Refused -> answer(Socket, 401, iolist_to_binary(io_lib:format("~0p", [Refused])))
    catch
        % In the broker the connection of the client ends.
        _:Fault -> answer(Socket, 401, iolist_to_binary(io_lib:format("~0p", [Fault])))
    end.

answer(Socket, Status, Text) ->
    Body = case Status of
        200 -> ["{\"sub\":\"", Text, "\"}"];
        _ -> Text
    end,
    gen_tcp:send(Socket, io_lib:format("HTTP/1.1 ~b X\r\nContent-Length: ~b\r\n\r\n~s", [Status, iolist_size(Body), Body])).
