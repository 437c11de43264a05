-- Reads the requests of functions with a single JSON argument.

-- A request is checked where a function reads the request. A caller with the worker's password may send any request,
-- and no value may have an effect for longer than the password is valid: no lease of years, no moment in the future, no
-- count too large to add up.

-- A whole number of a request. Raises 22023 for anything else, and for a number out of bounds; null only if optional.
create function clerk_sync.whole_number(
    request jsonb, field text, lowest bigint, highest bigint, is_optional boolean default false
)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    given constant jsonb := request -> field;
    number numeric;
begin
    if is_optional and coalesce(jsonb_typeof(given), 'null') = 'null' then
        return null;
    end if;
    -- A string could say NaN or Infinity.
    if jsonb_typeof(given) = 'number' then
        number := given;
        if number between lowest and highest and number = trunc(number) then
            return number;
        end if;
    end if;
    raise invalid_parameter_value using message = format('%s is no whole number from %s to %s', field, lowest, highest);
end
$$;

-- A moment of a request in milliseconds, up to the last moment that both Postgres and Python can express.
create function clerk_sync.moment(request jsonb, field text, is_optional boolean default false)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.whole_number(request, field, 0, 253402300799999, is_optional)
$$;

-- A moment at which something happened, as the request says: a day ahead of our clock at most, as for an event. Clerk's
-- clock is never wrong by more.
create function clerk_sync.past_moment(request jsonb, field text, is_optional boolean default false)
returns bigint
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.whole_number(
        request, field, 0, (extract(epoch from clock_timestamp()) * 1000)::bigint + 86400000, is_optional
    )
$$;

create function clerk_sync.flag(request jsonb, field text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(jsonb_typeof(request -> field), 'null') <> 'boolean' then
        raise invalid_parameter_value using message = format('%s is neither true nor false', field);
    end if;
    return request -> field;
end
$$;

-- A field of a request whose value has to be in a list of words.
create function clerk_sync.word(request jsonb, field text, words text[])
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if jsonb_typeof(request -> field) is distinct from 'string' or request ->> field <> all(words) then
        raise invalid_parameter_value using
            message = format('%s is none of %s', field, array_to_string(words, ', '));
    end if;
    return request ->> field;
end
$$;

create function clerk_sync.kind_of(request jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.word(request, 'kind', array(select k.kind from clerk_sync.kinds as k order by k.write_order))
$$;

-- Counts by name, as in a window or a run: only counts that count_findings() can add up.
create function clerk_sync.tally(request jsonb, field text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    given constant jsonb := request -> field;
begin
    if jsonb_typeof(given) is distinct from 'object' then
        raise invalid_parameter_value using message = format('%s is no object of counts', field);
    end if;
    perform clerk_sync.whole_number(given, t.key, 0, 1000000000000) from jsonb_each(given) as t;
    return given;
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0011_create_requests');
