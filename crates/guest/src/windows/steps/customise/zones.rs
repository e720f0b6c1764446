//! Names of time zones: the tz database's and Windows' for the same zone (Unicode CLDR, supplemental data, "Windows ↔
//! TZID"). Cities that are not here are refused by name; the guest's own registry decides what it knows.

/// Windows' names with those of the tz database.
const ZONES: &[(&str, &str)] = &[
    (
        "UTC",
        "UTC Etc/UTC Etc/GMT GMT Zulu Universal Etc/Universal Etc/Zulu",
    ),
    (
        "GMT Standard Time",
        "Europe/London Europe/Dublin Europe/Lisbon Europe/Jersey Europe/Guernsey Europe/Isle_of_Man Atlantic/Canary Atlantic/Madeira Atlantic/Faroe",
    ),
    (
        "Greenwich Standard Time",
        "Atlantic/Reykjavik Africa/Abidjan Africa/Accra Africa/Dakar Africa/Bamako Africa/Monrovia",
    ),
    (
        "W. Europe Standard Time",
        "Europe/Berlin Europe/Amsterdam Europe/Zurich Europe/Vienna Europe/Rome Europe/Stockholm Europe/Oslo Europe/Luxembourg Europe/Monaco Europe/Malta Europe/Vaduz Europe/San_Marino Europe/Vatican Europe/Andorra Europe/Gibraltar Europe/Busingen Arctic/Longyearbyen",
    ),
    (
        "Central Europe Standard Time",
        "Europe/Budapest Europe/Prague Europe/Bratislava Europe/Belgrade Europe/Ljubljana Europe/Podgorica Europe/Tirane",
    ),
    (
        "Romance Standard Time",
        "Europe/Paris Europe/Madrid Europe/Brussels Europe/Copenhagen Africa/Ceuta",
    ),
    (
        "Central European Standard Time",
        "Europe/Warsaw Europe/Zagreb Europe/Sarajevo Europe/Skopje",
    ),
    (
        "W. Central Africa Standard Time",
        "Africa/Lagos Africa/Algiers Africa/Tunis Africa/Luanda Africa/Kinshasa Africa/Douala Africa/Libreville",
    ),
    ("Morocco Standard Time", "Africa/Casablanca Africa/El_Aaiun"),
    (
        "GTB Standard Time",
        "Europe/Bucharest Europe/Athens Asia/Nicosia",
    ),
    (
        "FLE Standard Time",
        "Europe/Kiev Europe/Kyiv Europe/Helsinki Europe/Riga Europe/Sofia Europe/Tallinn Europe/Vilnius Europe/Mariehamn",
    ),
    ("E. Europe Standard Time", "Europe/Chisinau"),
    ("Turkey Standard Time", "Europe/Istanbul Asia/Istanbul"),
    ("Kaliningrad Standard Time", "Europe/Kaliningrad"),
    ("Russian Standard Time", "Europe/Moscow Europe/Simferopol"),
    ("Belarus Standard Time", "Europe/Minsk"),
    ("Russia Time Zone 3", "Europe/Samara"),
    ("Ekaterinburg Standard Time", "Asia/Yekaterinburg"),
    ("N. Central Asia Standard Time", "Asia/Novosibirsk"),
    ("Omsk Standard Time", "Asia/Omsk"),
    ("North Asia Standard Time", "Asia/Krasnoyarsk"),
    ("North Asia East Standard Time", "Asia/Irkutsk"),
    ("Yakutsk Standard Time", "Asia/Yakutsk"),
    ("Vladivostok Standard Time", "Asia/Vladivostok"),
    ("Israel Standard Time", "Asia/Jerusalem"),
    ("Egypt Standard Time", "Africa/Cairo"),
    (
        "South Africa Standard Time",
        "Africa/Johannesburg Africa/Harare Africa/Maputo Africa/Lusaka Africa/Gaborone",
    ),
    (
        "E. Africa Standard Time",
        "Africa/Nairobi Africa/Addis_Ababa Africa/Dar_es_Salaam Africa/Kampala Africa/Mogadishu",
    ),
    ("Libya Standard Time", "Africa/Tripoli"),
    ("Middle East Standard Time", "Asia/Beirut"),
    ("Jordan Standard Time", "Asia/Amman"),
    ("Syria Standard Time", "Asia/Damascus"),
    ("Arabic Standard Time", "Asia/Baghdad"),
    (
        "Arab Standard Time",
        "Asia/Riyadh Asia/Kuwait Asia/Qatar Asia/Bahrain Asia/Aden",
    ),
    ("Arabian Standard Time", "Asia/Dubai Asia/Muscat"),
    ("Iran Standard Time", "Asia/Tehran"),
    ("Azerbaijan Standard Time", "Asia/Baku"),
    ("Georgian Standard Time", "Asia/Tbilisi"),
    ("Caucasus Standard Time", "Asia/Yerevan"),
    ("Afghanistan Standard Time", "Asia/Kabul"),
    ("Pakistan Standard Time", "Asia/Karachi"),
    (
        "West Asia Standard Time",
        "Asia/Tashkent Asia/Samarkand Asia/Dushanbe Asia/Ashgabat Indian/Maldives",
    ),
    ("India Standard Time", "Asia/Calcutta Asia/Kolkata"),
    ("Sri Lanka Standard Time", "Asia/Colombo"),
    ("Nepal Standard Time", "Asia/Katmandu Asia/Kathmandu"),
    ("Bangladesh Standard Time", "Asia/Dhaka Asia/Thimphu"),
    ("Myanmar Standard Time", "Asia/Rangoon Asia/Yangon"),
    (
        "SE Asia Standard Time",
        "Asia/Bangkok Asia/Saigon Asia/Ho_Chi_Minh Asia/Jakarta Asia/Phnom_Penh Asia/Vientiane",
    ),
    (
        "Singapore Standard Time",
        "Asia/Singapore Asia/Kuala_Lumpur Asia/Manila Asia/Makassar Asia/Brunei",
    ),
    (
        "China Standard Time",
        "Asia/Shanghai Asia/Hong_Kong Asia/Macau PRC",
    ),
    ("Taipei Standard Time", "Asia/Taipei"),
    ("W. Australia Standard Time", "Australia/Perth"),
    ("Korea Standard Time", "Asia/Seoul"),
    ("Tokyo Standard Time", "Asia/Tokyo Japan"),
    ("AUS Central Standard Time", "Australia/Darwin"),
    ("Cen. Australia Standard Time", "Australia/Adelaide"),
    (
        "AUS Eastern Standard Time",
        "Australia/Sydney Australia/Melbourne Australia/Canberra",
    ),
    ("E. Australia Standard Time", "Australia/Brisbane"),
    ("Tasmania Standard Time", "Australia/Hobart"),
    (
        "West Pacific Standard Time",
        "Pacific/Port_Moresby Pacific/Guam",
    ),
    (
        "New Zealand Standard Time",
        "Pacific/Auckland Antarctica/McMurdo NZ",
    ),
    ("Fiji Standard Time", "Pacific/Fiji"),
    ("Tonga Standard Time", "Pacific/Tongatapu"),
    ("Samoa Standard Time", "Pacific/Apia"),
    ("Hawaiian Standard Time", "Pacific/Honolulu US/Hawaii"),
    (
        "Alaskan Standard Time",
        "America/Anchorage America/Juneau US/Alaska",
    ),
    (
        "Pacific Standard Time",
        "America/Los_Angeles America/Vancouver US/Pacific",
    ),
    ("US Mountain Standard Time", "America/Phoenix US/Arizona"),
    (
        "Mountain Standard Time",
        "America/Denver America/Boise America/Edmonton US/Mountain",
    ),
    (
        "Central Standard Time",
        "America/Chicago America/Winnipeg America/Menominee US/Central",
    ),
    (
        "Central America Standard Time",
        "America/Guatemala America/Costa_Rica America/El_Salvador America/Tegucigalpa America/Managua America/Belize",
    ),
    (
        "Central Standard Time (Mexico)",
        "America/Mexico_City America/Monterrey",
    ),
    ("Canada Central Standard Time", "America/Regina"),
    (
        "Eastern Standard Time",
        "America/New_York America/Detroit America/Toronto America/Nassau US/Eastern",
    ),
    (
        "SA Pacific Standard Time",
        "America/Bogota America/Lima America/Panama America/Guayaquil America/Jamaica",
    ),
    (
        "US Eastern Standard Time",
        "America/Indianapolis America/Indiana/Indianapolis",
    ),
    ("Venezuela Standard Time", "America/Caracas"),
    ("Atlantic Standard Time", "America/Halifax Atlantic/Bermuda"),
    (
        "SA Western Standard Time",
        "America/La_Paz America/Puerto_Rico America/Santo_Domingo America/Manaus America/Port_of_Spain",
    ),
    ("Paraguay Standard Time", "America/Asuncion"),
    ("Pacific SA Standard Time", "America/Santiago"),
    ("Newfoundland Standard Time", "America/St_Johns"),
    ("E. South America Standard Time", "America/Sao_Paulo"),
    (
        "Argentina Standard Time",
        "America/Buenos_Aires America/Argentina/Buenos_Aires",
    ),
    ("Montevideo Standard Time", "America/Montevideo"),
    (
        "SA Eastern Standard Time",
        "America/Cayenne America/Fortaleza America/Paramaribo",
    ),
    ("Cuba Standard Time", "America/Havana"),
    ("Azores Standard Time", "Atlantic/Azores"),
    ("Cape Verde Standard Time", "Atlantic/Cape_Verde"),
    ("Mauritius Standard Time", "Indian/Mauritius Indian/Reunion"),
    ("Central Asia Standard Time", "Asia/Bishkek Asia/Urumqi"),
    ("Ulaanbaatar Standard Time", "Asia/Ulaanbaatar"),
];

/// Windows' name of a zone of the tz database.
pub(super) fn windows_name(zone: &str) -> Option<&'static str> {
    let has = |names: &str| names.split(' ').any(|name| name == zone);
    ZONES
        .iter()
        .find(|(_, names)| has(names))
        .map(|(windows, _)| *windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_city_has_one_zone() {
        let mut all: Vec<&str> = ZONES
            .iter()
            .flat_map(|(_, names)| names.split(' '))
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(
            windows_name("Europe/Berlin"),
            Some("W. Europe Standard Time")
        );
        assert_eq!(windows_name("Berlin"), None);
    }
}
