# A service with the program of docs/verify/crypt-jwt.md as it stands there. Only what every reader changes is replaced: the issuer,
# the audience and the algorithm.
#
# It prints the address it listens on and answers GET / with the subject of the caller's token, or 401 and the reason.
#
#   SERVICE_ISSUER    the token server
#   SERVICE_AUDIENCE  the name of this API there
#   SERVICE_ALG       the one algorithm it accepts
#   SERVICE_BARE      set: only the checks that the library does by default
#
# It needs no SERVICE_LIFESPAN, because it obeys max-age.
use strict;
use warnings;
use FindBin;
use IO::Select;
use IO::Socket::INET;
use JSON qw(encode_json);

my $page = "$FindBin::Bin/../../../docs/verify/crypt-jwt.md";
open my $file, '<', $page or die "$page: $!";
my ($program) = join('', <$file>) =~ /^```perl\n(.*?)^```$/ms or die "$page has no program";
for (['https://id.example.com', 'ISSUER'], ["'orders'", 'AUDIENCE'], ["'EdDSA'", 'ALG']) {
    my ($shown, $name) = @$_;
    my $value = $shown =~ /^'/ ? "'$ENV{\"SERVICE_$name\"}'" : $ENV{"SERVICE_$name"};
    $program =~ s/\Q$shown/$value/ or die "$page has no $shown";
}
# Without the settings of the page, decode_jwt finds the key.
$program .= <<'END';
sub bare {
    my ($token) = @_;
    eval { find('-') };
    return scalar decode_jwt(token => $token, kid_keys => { keys => [values %$keys] });
}
1;
END
eval $program or die $@;

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64) or die $!;
my $sockets = IO::Select->new($listener);
my %read; # connection => what it has sent of its next request
$| = 1;
print 'http://127.0.0.1:', $listener->sockport, "/\n";

while (my @ready = $sockets->can_read) {
    for my $socket (@ready) {
        if ($socket == $listener) {
            $sockets->add($listener->accept // next);
        }
        elsif (!sysread $socket, $read{$socket}, 65536, length($read{$socket} // '')) {
            delete $read{$socket};
            $sockets->remove($socket);
            close $socket;
        }
        else {
            syswrite $socket, answer($1) while $read{$socket} =~ s/\A(.*?\r\n)\r\n//s;
        }
    }
}

sub answer {
    my ($request) = @_;
    my $body = eval {
        my ($token) = $request =~ /^authorization: bearer (.*)\r$/mi or die "no bearer token\n";
        encode_json({ sub => ($ENV{SERVICE_BARE} ? bare($token) : verify($token))->{sub} });
    };
    my $status = defined $body ? '200 OK' : '401 Unauthorized';
    $body //= $@;
    return "HTTP/1.1 $status\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}
