<?php
// A service with the program of docs/verify/php.md as it stands there. Only what every reader changes is replaced: the issuer, the
// audience, the algorithm and the file of the keys.
//
// It starts PHP's own web server with this file, prints the address it listens on and answers GET / with the subject of the caller's
// token, or 401 and the reason.
//
//   SERVICE_ISSUER     the token server
//   SERVICE_AUDIENCE   the name of this API there
//   SERVICE_ALG        the one algorithm it accepts
//   SERVICE_DIRECTORY  an empty directory
//
// It needs no SERVICE_LIFESPAN, because it obeys max-age.
const PAGE = __DIR__ . '/../../../docs/verify/php.md';

PHP_SAPI === 'cli' ? start() : answer();

function start(): void
{
    put_program();
    $probe = stream_socket_server('tcp://127.0.0.1:0');
    $address = stream_socket_get_name($probe, false);
    fclose($probe);
    // SIGTERM when this process ends.
    $command = ['setpriv', '--pdeathsig', 'TERM', PHP_BINARY, '-n', '-d', 'display_errors=0', '-S', $address, __FILE__];
    $server = proc_open($command, [1 => STDERR, 2 => ['file', '/dev/null', 'w']], $pipes);
    while (!@fsockopen("tcp://$address")) {
        proc_get_status($server)['running'] or exit('PHP did not start');
        usleep(20_000);
    }
    echo "http://$address/\n";
    proc_close($server);
}

function put_program(): void
{
    preg_match('/^```php\n(.*?)^```$/ms', file_get_contents(PAGE), $match) or exit(PAGE . ' has no program');
    $program = $match[1];
    $values = [
        'https://id.example.com' => getenv('SERVICE_ISSUER'),
        "'orders'" => "'" . getenv('SERVICE_AUDIENCE') . "'",
        "'EdDSA';" => "'" . getenv('SERVICE_ALG') . "';",
        '/run/orders' => getenv('SERVICE_DIRECTORY'),
    ];
    foreach ($values as $shown => $value) {
        $program = str_replace($shown, $value, $program, $count);
        $count === 1 or exit(PAGE . " has $count times $shown");
    }
    file_put_contents(getenv('SERVICE_DIRECTORY') . '/program.php', $program);
}

function answer(): void
{
    require getenv('SERVICE_DIRECTORY') . '/program.php';
    try {
        preg_match('/^Bearer (.*)$/Di', $_SERVER['HTTP_AUTHORIZATION'] ?? '', $match) or throw new Exception('no bearer token');
        $body = json_encode(['sub' => verify($match[1])['sub']]);
    } catch (Throwable $error) {
        http_response_code(401);
        $body = get_class($error) . ': ' . $error->getMessage();
    }
    header('Content-Type: text/plain');
    echo $body;
}
